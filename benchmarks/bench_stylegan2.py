"""Time of one StyleGAN2 update, as a ratio to a plain eager float32 implementation of the same.

    python -m benchmarks.bench_stylegan2 [--resolution 64 --base 1024 --batch 8] [--rounds 3]

The plain one gives each sample weights of its own in a grouped convolution, as the paper writes it,
and keeps PyTorch's default layout. Both start from the same weights and noise; "loss" is
the discriminator's first one. An update is that of both networks, R1 every 16th time and the path
length every 4th. Variants take turns within each round; the median counts.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.clock import seconds
from stages.engine.fabric import channels_last
from stages.losses.gradient_penalties import path_length_penalty, path_lengths, r1
from stages.losses.logistic import discriminator_logistic, generator_logistic
from stages.stylegan2.discriminator import Discriminator
from stages.stylegan2.generator import Generator
from stages.stylegan2.layers import EPS, Modulated

R1_EVERY, PATH_EVERY = 16, 4


@dataclass(frozen=True)
class Variant:
    """One way to run the same update."""

    name: str
    grouped: bool = False
    bf16: bool = False
    channels_last: bool = True


VARIANTS = (
    Variant("plain eager fp32", grouped=True, channels_last=False),
    Variant("ours fp32"),
    Variant("ours bf16", bf16=True),
)


def grouped(self: Modulated, x: Tensor, w: Tensor) -> Tensor:
    """Convolve each sample with weights of its own, as one convolution in groups."""
    count, channels, height, width = x.shape
    weight = (self.weight * self.scale)[None] * self.affine(w)[:, None, :, None, None]
    if self.demodulate:
        lengths = weight.square().sum(dim=(2, 3, 4), keepdim=True)
        weight = weight * torch.rsqrt(lengths + EPS)
    size = weight.shape[-1]
    x = x.reshape(1, count * channels, height, width)
    if self.smooth is None:
        kernel = weight.reshape(-1, channels, size, size)
        y = F.conv2d(x, kernel, padding=size // 2, groups=count)
    else:
        kernel = weight.transpose(1, 2).reshape(count * channels, -1, size, size)
        y = F.conv_transpose2d(x, kernel, stride=2, groups=count)
    y = y.reshape(count, -1, *y.shape[2:])
    smoothed: Tensor = y if self.smooth is None else self.smooth(y)
    return smoothed


@contextmanager
def as_written(variant: Variant) -> Iterator[None]:
    """Inside, modulated convolutions are what the variant says."""
    if not variant.grouped:
        yield
        return
    with patch.object(Modulated, "forward", grouped):
        yield


class Update:
    """The three passes of one variant."""

    def __init__(self, variant: Variant, sizes: argparse.Namespace, device: torch.device) -> None:
        torch.manual_seed(0)
        common = {"resolution": sizes.resolution, "base": sizes.base, "most": sizes.most}
        self.variant, self.device = variant, device
        self.generator = Generator(**common, z_dim=sizes.w_dim, w_dim=sizes.w_dim).to(device)
        self.discriminator = Discriminator(**common).to(device)
        if variant.channels_last:
            channels_last(self.generator)
            channels_last(self.discriminator)
        rng = torch.Generator(device).manual_seed(0)
        side = sizes.resolution
        self.z = torch.randn(sizes.batch, sizes.w_dim, generator=rng, device=device)
        self.real = torch.rand(sizes.batch, 3, side, side, generator=rng, device=device) * 2 - 1
        if variant.channels_last:
            self.real = self.real.contiguous(memory_format=torch.channels_last)
        self.y = torch.randn(sizes.batch // 2, 3, side, side, generator=rng, device=device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.variant.bf16)

    def main(self) -> Tensor:
        """Return the discriminator's loss; both networks get their gradients."""
        with as_written(self.variant), self._autocast():
            with torch.no_grad():
                fake = self.generator(self.z).pictures
            loss = discriminator_logistic(self.discriminator(self.real), self.discriminator(fake))
        self._learn(loss)
        self.discriminator.requires_grad_(False)
        with as_written(self.variant), self._autocast():
            made = self.generator(self.z).pictures
            generator_loss = generator_logistic(self.discriminator(made))
        self._learn(generator_loss)
        self.discriminator.requires_grad_(True)
        return loss.detach()

    def r1(self) -> None:
        real = self.real.detach().requires_grad_()
        with self._autocast():
            penalty = r1(self.discriminator(real), real)
        self._learn(penalty)

    def path(self) -> None:
        with as_written(self.variant), self._autocast():
            made = self.generator(self.z[: len(self.y)])
            lengths = path_lengths(made.pictures, made.latents, self.y)
        self._learn(path_length_penalty(lengths, torch.zeros((), device=self.device)))

    def _learn(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)
        for network in (self.generator, self.discriminator):
            network.zero_grad()


def main() -> None:
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--base", type=int, default=32768 if cuda else 1024)
    parser.add_argument("--most", type=int, default=512 if cuda else 64)
    parser.add_argument("--w-dim", type=int, default=512 if cuda else 64)
    parser.add_argument("--batch", type=int, default=64 if cuda else 8)
    parser.add_argument("--rounds", type=int, default=10 if cuda else 3)
    sizes = parser.parse_args()
    torch.set_float32_matmul_precision("highest")

    updates = [Update(variant, sizes, device) for variant in VARIANTS]
    losses = [float(update.main()) for update in updates]
    for update in updates:  # the choice of kernels is not timed
        update.r1(), update.path()
    times: list[list[tuple[float, float, float]]] = [[] for _ in updates]
    for _ in range(sizes.rounds):
        for update, found in zip(updates, times, strict=True):
            passes = (update.main, update.r1, update.path)
            found.append(tuple(seconds(work, device) for work in passes))
    print(f"{'':18}{'main':>9}{'R1':>9}{'path':>9}{'mean':>9}  ratio   always  loss")
    plain = always = None
    for variant, found, loss in zip(VARIANTS, times, losses, strict=True):
        main_s, r1_s, path_s = (statistics.median(column) for column in zip(*found, strict=True))
        mean_s = main_s + r1_s / R1_EVERY + path_s / PATH_EVERY
        plain, always = plain or mean_s, always or main_s + r1_s + path_s
        cells = "".join(f"{1000 * s:7.0f} ms" for s in (main_s, r1_s, path_s, mean_s))
        ratios = f"{plain / mean_s:6.2f} ×{always / mean_s:7.2f} ×"
        print(f"{variant.name:18}{cells}{ratios}  {loss:.4f}")
    print("aim: 1.3 × on a CPU, 2 × on a GPU")


if __name__ == "__main__":
    main()
