"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """theta_ema <- d theta_ema + (1 - d) theta after each update; a plain copy until `start_step`.

    Buffers of floating point are averaged as parameters are, all others (counts) copied. Batch
    norm's mean and variance must belong to the weights beside them: those of the live weights tell
    of the last few batches, the averaged weights are those of the last 1 / (1 - d) steps. So does
    the published code of BigGAN and IC-GAN, which averages all of a generator's state and draws
    with the averaged statistics (BigGAN's paper collects standing statistics instead, from forward
    passes of the averaged generator). The vector u of spectral norm is averaged too; only its
    direction counts, as stages/sound2scene/biggan_layers.py follows it by one power iteration.

    Works on sharded modules: each rank averages its own part.
    """

    def __init__(self, module: nn.Module, decay: float, start_step: int = 0) -> None:
        self.module, self.decay, self.start_step = module, decay, start_step
        self._average = {name: value.detach().clone() for name, value in _tensors(module)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update number `step`."""
        if step <= self.start_step:
            return self.take()
        # Parameters may be sharded, buffers never are: they cannot share one foreach call.
        for live in (dict(self.module.named_parameters()), dict(self.module.named_buffers())):
            real = {name: value for name, value in live.items() if value.is_floating_point()}
            if real:
                averages = [self._average[name] for name in real]
                torch._foreach_lerp_(averages, list(real.values()), 1 - self.decay)
            for name in live.keys() - real.keys():
                self._average[name].copy_(live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the module the averaged weights, and its own back, bit for bit."""
        own = {name: value.detach().clone() for name, value in _tensors(self.module)}
        self._give(self._average)
        try:
            yield
        finally:
            self._give(own)

    @torch.no_grad()
    def _give(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in _tensors(self.module):
            value.copy_(weights[name])

    @torch.no_grad()
    def take(self) -> None:
        """Make the module's present weights the average."""
        for name, value in _tensors(self.module):
            self._average[name].copy_(value)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
