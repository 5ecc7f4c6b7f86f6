"""Latent optimisation: a step against its plain composition, and a batch against one by one.

    python -m benchmarks.bench_manipulation [--resolution 256] [--steps 2] [--images 16]

The step: StyleGAN2 and CLIP ViT-B/32 with random weights, one code. The plain composition writes
the equations as they stand, around the same networks: gradients reach all weights, and the source
is made and seen again in each step. Both begin with the same code; "gap" is the largest relative
difference of their losses. Aim: at most 0.7 × its time.

The batch: codes moved at once and one by one; on a CPU with the demo's networks, as large ones are
bound by arithmetic there, whatever the batch. "apart" is how much their losses, which begin at 1,
differ at most. Aim: at least 2 × the pictures per second.

On a CPU time is that of one thread, so that what else runs on the machine does not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.clock import seconds
from stages.losses.manipulation import layer_mask
from stages.sound_guided.codes import spread_of, truncated
from stages.sound_guided.latent_optimisation import Moved, Search, optimise
from stages.stylegan2.generator import Generator
from stages.text_image.files import require_transformers
from stages.text_image.model import TextImage
from stages.text_image.sight import Sight

STEP_AIM, BATCH_AIM = 0.7, 2.0
TINY_TOWER = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def clip_of(device: torch.device, *, tiny: bool) -> TextImage:
    """Return CLIP ViT-B/32, or one of the demo's size, with random weights; it reads no text."""
    require_transformers()
    import transformers

    torch.manual_seed(1)
    config = transformers.CLIPConfig()
    side = config.vision_config.image_size
    if tiny:
        side = 64
        config = transformers.CLIPConfig(
            text_config=TINY_TOWER,
            vision_config={**TINY_TOWER, "image_size": side, "patch_size": 8},
            projection_dim=64,
        )
    return TextImage(transformers.CLIPModel(config), None, Sight(side), name="bench", device=device)


class Problem:
    """A generator, CLIP, codes, and where they go."""

    def __init__(self, sizes: dict[str, Any], images: int, device: torch.device, *, tiny: bool):
        torch.manual_seed(0)
        self.generator = Generator(**sizes).eval().to(device)
        self.clip = clip_of(device, tiny=tiny)
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(images, self.generator.z_dim, generator=rng).to(device)
        mean = spread_of(self.generator, device).mean
        self.source = truncated(self.generator, z, mean, 0.7)
        drawn = torch.randn(images, self.clip.dim, generator=rng)
        self.guidance = F.normalize(drawn, dim=1).to(device)

    def ours(self, steps: int, rows: slice = slice(None)) -> Moved:
        """Move some of the codes; the networks are frozen, as `load_model` leaves them."""
        self.generator.requires_grad_(False)
        search = Search(steps=steps)
        guidance, source = self.guidance[rows], self.source[rows]
        return optimise(self.generator, self.clip.seen, guidance, source, search=search)

    def plain(self, steps: int) -> list[float]:
        """Return the losses of the equations written out, around the same networks."""
        weights = [*self.generator.parameters(), *self.clip._model.parameters()]
        for weight in weights:
            weight.requires_grad_(True)
        search = Search(steps=steps)
        w = self.source.clone().requires_grad_()
        g = torch.zeros(w.shape[:2], device=w.device, requires_grad=True)
        adam = torch.optim.Adam([w, g])
        losses = []
        for step in range(1, steps + 1):
            similarity, before = (
                (self.clip.seen(self.generator.synthesis(codes)) * self.guidance).sum(dim=1)
                for codes in (w, self.source)
            )
            held = (layer_mask(g)[:, :, None] * (w - self.source)).square().sum(dim=(1, 2))
            loss = (F.relu(1 - similarity + before) + search.reg_weight * held).sum()
            adam.zero_grad()
            torch.autograd.backward(loss)
            for group in adam.param_groups:
                group["lr"] = search.rate(step)
            adam.step()
            losses.append(float(loss.detach()))
        for weight in weights:
            weight.grad = None
            weight.requires_grad_(False)
        return losses


def taken(work: Callable[[], object], device: torch.device) -> float:
    """Return the time of work: of the device, or on a CPU of this process."""
    if device.type != "cpu":
        return seconds(work, device)
    started = time.process_time()
    work()
    return time.process_time() - started


def bench_step(arguments: argparse.Namespace, device: torch.device) -> None:
    """Print the ratio of a step to its plain composition."""
    sizes = {"resolution": arguments.resolution, "base": arguments.base}
    problem, steps = Problem(sizes, 1, device, tiny=False), arguments.steps
    own: Tensor = problem.ours(steps).loss[:, 0]
    gap = max(abs(float(a) - b) / abs(b) for a, b in zip(own, problem.plain(steps), strict=True))
    works = {"plain": lambda: problem.plain(steps), "ours": lambda: problem.ours(steps)}
    best = {
        name: min(taken(work, device) for _ in range(arguments.rounds)) / steps
        for name, work in works.items()
    }
    for name, took_s in best.items():
        print(f"{name:8}{1000 * took_s:8.0f} ms a step {took_s / best['plain']:6.2f} ×")
    print(f"step at {arguments.resolution} px, gap {gap:.1e}; aim: at most {STEP_AIM} ×")


def bench_batch(arguments: argparse.Namespace, device: torch.device) -> None:
    """Print the ratio of a batch to its codes one by one."""
    tiny = device.type == "cpu"
    sizes = (
        {"resolution": 64, "base": 1024, "most": 64, "z_dim": 64, "w_dim": 64}
        if tiny
        else {"resolution": arguments.resolution, "base": arguments.base}
    )
    n, steps = arguments.images, 6 * arguments.steps
    problem = Problem(sizes, n, device, tiny=tiny)
    singles = [slice(row, row + 1) for row in range(n)]
    alone = torch.cat([problem.ours(steps, row).loss for row in singles], dim=1)
    apart = float((alone - problem.ours(steps).loss).abs().max())
    works = {
        "one by one": lambda: [problem.ours(steps, row) for row in singles],
        "a batch": lambda: problem.ours(steps),
    }
    rates = {
        name: n * steps / min(taken(work, device) for _ in range(arguments.rounds))
        for name, work in works.items()
    }
    for name, rate in rates.items():
        print(
            f"{name:12}{rate:8.1f} steps of a picture a second {rate / rates['one by one']:6.2f} ×"
        )
    print(f"{n} pictures at {sizes['resolution']} px, apart {apart:.1e}; aim: {BATCH_AIM:g} ×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--base", type=int, default=32768)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("highest")
    bench_step(arguments, device)
    bench_batch(arguments, device)


if __name__ == "__main__":
    main()
