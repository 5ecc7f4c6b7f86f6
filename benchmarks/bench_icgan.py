"""Time of one IC-GAN update (discriminator, generator, Adam), as a ratio to eager float32.

    python -m benchmarks.bench_icgan [--resolution 128 --channels 96 --batch 64] [--rounds 10]

Variants take turns within each round; the median counts. Without a GPU the sizes are tiny, and
torch.compile, which pays off on GPUs, is left out unless asked for by --compile. "loss" is the
discriminator's first hinge loss, from the same weights and inputs in every variant.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.clock import seconds
from stages.engine.optim import adam
from stages.losses.hinge import discriminator_hinge, generator_hinge
from stages.nn.sphere import unit_norm
from stages.sound2scene.icgan import Discriminator, Generator
from stages.train_icgan import BETAS, EPS


@dataclass(frozen=True)
class Variant:
    """One way to run the same update."""

    name: str
    bf16: bool = False
    channels_last: bool = False
    compile: bool = False


VARIANTS = (
    Variant("eager fp32"),
    Variant("channels last", channels_last=True),
    Variant("bf16", bf16=True),
    Variant("bf16, channels last", bf16=True, channels_last=True),
    Variant("bf16, channels last, compiled", bf16=True, channels_last=True, compile=True),
)


def make_update(
    variant: Variant, sizes: argparse.Namespace, device: torch.device
) -> Callable[[], Tensor]:
    """Return a function that does one update and returns the discriminator's loss."""
    torch.manual_seed(0)
    attention = (64,) if sizes.resolution >= 128 else ()
    common = {"resolution": sizes.resolution, "channels": sizes.channels, "attention_px": attention}
    generator: nn.Module = Generator(**common).to(device)
    discriminator: nn.Module = Discriminator(**common).to(device)
    optimizers = [
        adam(discriminator, lr=1e-4, betas=BETAS, eps=EPS),
        adam(generator, lr=4e-5, betas=BETAS, eps=EPS),
    ]
    if variant.channels_last:
        convert_conv2d_weight_memory_format(generator, torch.channels_last)
        convert_conv2d_weight_memory_format(discriminator, torch.channels_last)
    if variant.compile:
        generator.compile()
        discriminator.compile()
    rng = torch.Generator(device).manual_seed(0)
    n, side = sizes.batch, sizes.resolution
    z = torch.randn(n, 120, generator=rng, device=device)
    h = unit_norm(torch.randn(n, 2048, generator=rng, device=device))
    real = torch.rand(n, 3, side, side, generator=rng, device=device) * 2 - 1

    def update() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.bf16):
            with torch.no_grad():
                fake = generator(z, h)
            scores = discriminator(torch.cat([real, fake.float()]), torch.cat([h, h]))
        loss = discriminator_hinge(*scores.float().chunk(2))
        torch.autograd.backward(loss)
        optimizers[0].step()
        optimizers[0].zero_grad()
        discriminator.requires_grad_(False)
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.bf16):
            scores = discriminator(generator(z, h).float(), h)
        torch.autograd.backward(generator_hinge(scores.float()))
        optimizers[1].step()
        optimizers[1].zero_grad()
        discriminator.requires_grad_(True)
        return loss.detach()

    return update


def main() -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=128 if cuda else 32)
    parser.add_argument("--channels", type=int, default=96 if cuda else 8)
    parser.add_argument("--batch", type=int, default=64 if cuda else 16)
    parser.add_argument("--rounds", type=int, default=10 if cuda else 5)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=cuda)
    sizes = parser.parse_args()
    torch.set_float32_matmul_precision("highest")

    variants = [v for v in VARIANTS if sizes.compile or not v.compile]
    updates = [make_update(variant, sizes, device) for variant in variants]
    losses = [float(update()) for update in updates]
    for update in updates:  # once more: compilation and the choice of kernels are not timed
        update()
    times: list[list[float]] = [[] for _ in updates]
    for _ in range(sizes.rounds):
        for measured, update in zip(times, updates, strict=True):
            measured.append(seconds(update, device))
    medians = [statistics.median(measured) for measured in times]
    place = torch.cuda.get_device_name() if cuda else "CPU"
    print(
        f"IC-GAN update on {place}: {sizes.resolution} px, ch {sizes.channels}, batch {sizes.batch}"
    )
    print(f"{'variant':<32} {'speed':>7} {'loss':>9}")
    for variant, median, loss in zip(variants, medians, losses, strict=True):
        print(f"{variant.name:<32} {medians[0] / median:>6.2f}x {loss:>9.4f}")


if __name__ == "__main__":
    main()
