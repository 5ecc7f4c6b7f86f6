"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """theta_ema <- d theta_ema + (1 - d) theta after each update; a plain copy until `start_step`.

    Parameters are averaged, buffers (batch norm's statistics) copied. Works on sharded modules:
    each rank averages its own part.
    """

    def __init__(self, module: nn.Module, decay: float, start_step: int = 0) -> None:
        self.module, self.decay, self.start_step = module, decay, start_step
        self._average = {name: value.detach().clone() for name, value in _tensors(module)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update number `step`."""
        parameters = dict(self.module.named_parameters())
        if step <= self.start_step:
            parameters = {}
        for name, value in _tensors(self.module):
            if name not in parameters:
                self._average[name].copy_(value)
        if parameters:
            averages = [self._average[name] for name in parameters]
            torch._foreach_lerp_(averages, list(parameters.values()), 1 - self.decay)

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
