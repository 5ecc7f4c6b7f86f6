"""One full step of train_avstyle (discriminator, generator with PatchNCE and identity, updates)
against a plain eager float32 implementation of the same step.

    python -m benchmarks.bench_avstyle [--side 256 --batch 16] [--steps 10] [--compile]

Ours is the trainer itself, which shows one batch of packed clips again and again. The peer does as
the published code does: a pass for each picture that is painted or read, the sound tiled beside the
features. Both begin with the same weights, batch and places of patches, so that their losses must
agree; "gap" is the largest relative difference of the losses of the first step. Each variant runs
in a process of its own, one after the other, and its best step counts; memory is the peak of the
device, on a CPU that of the process.
Aim: at least twice as fast.

On a CPU the batch is 1 by default and time is that of one thread, so that what else runs on the
machine does not count; compilation, which pays off on GPUs, is left out unless asked for.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.audio.spec import AVSTYLE
from avdata.cli.terminal import new_console
from avdata.config import Pipeline
from avdata.strict import build
from benchmarks.bench_loader import make_clips, pack
from stages.avstyle.generator import Generator
from stages.avstyle.projections import sample_locations
from stages.avstyle.settings import Settings
from stages.engine.fabric import make_fabric
from stages.engine.optim import adam
from stages.engine.rng import generator_for
from stages.engine.run import Run
from stages.engine.termination import Termination
from stages.losses.least_squares import discriminator_least_squares, generator_least_squares
from stages.losses.patch_nce import patch_nce
from stages.nn.blur_pool import doubled
from stages.nn.frontend import Frontend
from stages.train_avstyle import BETAS, NAME, train

VARIANTS: dict[str, dict[str, Any]] = {
    "peer: eager fp32, a pass each": {},
    "ours, fp32": {"precision": "fp32"},
    "ours, bf16": {"precision": "bf16"},
    "ours, bf16, compiled": {"precision": "bf16", "compile": True},
}
PEER = next(iter(VARIANTS))
LOSSES = ("d_loss", "g_gan", "g_nce", "g_identity")


class EnoughError(Exception):
    """The trainer is as far as its first batch."""


class OneBatch(Run[Settings]):
    """A training that shows its first batch again and again, and writes nothing.

    networks: as they are before the first step. took_s, losses: of each step.
    """

    def begin(self, steps: int, *, capture: bool) -> None:
        self.networks: dict[str, Any] = {}
        self.took_s: list[float] = []
        self.losses: list[dict[str, float]] = []
        self.batch: Any = None
        self.count, self.capture = steps, capture

    def model(self, name: str, module: Any, **options: Any) -> Any:
        self.networks[name] = copy.deepcopy(module) if self.capture else None
        return super().model(name, module, **options)

    def steps(self, batches: Any) -> Iterator[int]:
        self.total_steps = 10**6
        for step in range(1, self.count + 1):
            self.step = step
            started = seconds(self.device)
            yield step
            self.took_s.append(seconds(self.device) - started)

    def draw(self, batches: Any, forward: Callable[[Any], Any]) -> list[Any]:
        if self.batch is None:
            self.batch = next(batches)
            if self.capture:
                raise EnoughError
        return super().draw(iter([self.batch]), forward)

    def log(self, values: Any) -> None:
        self.losses.append({name: float(values[name].detach()) for name in LOSSES})

    @property
    def evaluation_due(self) -> bool:
        return False


def seconds(device: torch.device) -> float:
    """Return the time: on the clock, on a CPU that of this process."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def plain_picture(generator: Generator, x: Tensor, heard: Tensor) -> Tensor:
    """The published forward pass: the sound tiled beside the features."""
    features, drawing = generator.content(x), generator.drawing
    tiled = heard[..., None, None].expand(-1, -1, *features.shape[2:])
    y = doubled(torch.cat([features, tiled], dim=1))
    y = F.relu(F.instance_norm(drawing.up1(y)))
    y = F.relu(F.instance_norm(drawing.up2(doubled(y))))
    return torch.tanh(drawing.last(F.pad(y, (3, 3, 3, 3), "reflect")))


def plain_steps(run: OneBatch) -> None:
    """Do the steps as they are usually written."""
    for network in run.networks.values():
        network.to(run.device).to(memory_format=torch.contiguous_format)
    generator, ear = run.networks["generator"], run.networks["sound_encoder"]
    critic, mlps = run.networks["discriminator"], run.networks["projections"]
    lr = run.settings.lr
    optimizers = [adam(network, lr=lr, betas=BETAS) for network in (critic, generator, ear, mlps)]
    x, y, sound = run.batch.content.image, run.batch.pair.image, run.batch.pair.audio
    frontend = Frontend(AVSTYLE).to(run.device)

    def nce(source: Tensor, made: Tensor) -> Tensor:
        queries, keys = generator.content.layers(made), generator.content.layers(source)
        chance = generator_for(run.seed, NAME, f"patches of step {run.step}", run.device)
        places = sample_locations(keys, chance)
        return patch_nce(mlps(queries, places), mlps(keys, places))

    for _ in run.steps(None):
        spectrogram = frontend(sound)
        heard = ear(spectrogram)
        fake, same = (plain_picture(generator, picture, heard) for picture in (x, y))
        judged = critic(y, spectrogram), critic(fake.detach(), spectrogram)
        d_loss = discriminator_least_squares(*judged)
        torch.autograd.backward(d_loss)
        optimizers[0].step()
        critic.requires_grad_(False)
        gan = generator_least_squares(critic(fake, spectrogram))
        nce_x, nce_y = nce(x, fake), nce(y, same)
        torch.autograd.backward(gan + 0.5 * nce_x + 0.5 * nce_y)
        for optimizer in optimizers[1:]:
            optimizer.step()
        critic.requires_grad_(True)
        for optimizer in optimizers:
            optimizer.zero_grad()
        run.log(dict(zip(LOSSES, (d_loss, gan, nce_x, nce_y), strict=True)))


def measure(name: str, shards: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return losses, best time of a step and peak memory of one variant, in this process."""
    cuda = torch.cuda.is_available()
    train_settings = {"batch_size": options.batch, "shards": shards, "workers": 1}
    tree = {"resolution_px": options.side, "width": options.width, "held_out": None}
    settings = build(Settings, {**tree, "train": {**train_settings, **VARIANTS[name]}}, "bench")
    fabric = make_fabric(settings.train)
    pipeline = Pipeline(name="bench", output=shards)
    run = OneBatch(NAME, settings, pipeline, fabric, Path(shards), new_console(), Termination())
    run.begin(options.steps + 1, capture=name == PEER)  # the first compiles, picks algorithms
    try:
        train(run)
    except EnoughError:
        plain_steps(run)
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = torch.cuda.max_memory_allocated() if cuda else resident
    return {"s": min(run.took_s[1:]), "peak": peak, "losses": run.losses}


def compare(options: argparse.Namespace) -> None:
    """Print each variant beside the peer."""
    names = [n for n in VARIANTS if options.compile or not VARIANTS[n].get("compile")]
    with tempfile.TemporaryDirectory() as folder:
        pack(Path(folder), make_clips(2 * options.batch, "flac"), "flac")
        found = {}
        for name in names:
            job = [sys.executable, "-m", "benchmarks.bench_avstyle", "--job", name, folder]
            sizes = [f"--{k}={getattr(options, k)}" for k in ("side", "width", "batch", "steps")]
            done = subprocess.run([*job, *sizes], check=True, stdout=subprocess.PIPE, text=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    peer = found[PEER]
    print(f"{options.side} px, batch {options.batch}")
    print(f"{'':32}{'s per step':>11}{'ratio':>7}{'peak GB':>9}{'gap':>9}")
    for name, value in found.items():
        gap = max(abs(value["losses"][0][k] / v - 1) for k, v in peer["losses"][0].items())
        print(
            f"{name:32}{value['s']:11.3f}{peer['s'] / value['s']:7.2f}"
            f"{value['peak'] / 1e9:9.2f}{gap:9.1e}"
        )
    losses = ", ".join(f"{name} {value:.4f}" for name, value in peer["losses"][0].items())
    print(f"losses of the first step: {losses}")


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16 if cuda else 1)
    parser.add_argument("--steps", type=int, default=10 if cuda else 2)
    parser.add_argument("--compile", action="store_true", default=cuda)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not cuda:
        torch.set_num_threads(1)
    if options.job:
        print(json.dumps(measure(*options.job, options)))
        return
    print(f"on {torch.cuda.get_device_name() if cuda else 'a CPU, one thread'}")
    compare(options)


if __name__ == "__main__":
    main()
