"""Means over steps and ranks, and whether losses are finite: both without a wait per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed

T = TypeVar("T")
SHOWN_KEYS = 8


class Meters:
    """Collects values on the device; `reduce` brings them home."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._watched: list[tuple[int, Any, Tensor]] = []  # step, batch's keys, loss

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Take in the values of one step; the same names on all ranks."""
        for name, value in values.items():
            tensor = torch.as_tensor(value, dtype=torch.float64, device=self.fabric.device).detach()
            self._sums[name] = self._sums[name] + tensor if name in self._sums else tensor
            self._counts[name] = self._counts.get(name, 0) + 1

    def watch(self, step: int, batch: Any, loss: Tensor) -> None:
        """Remember a loss and the names of what it was computed on, to be checked by `reduce`."""
        keys = getattr(batch, "keys", None)
        if isinstance(batch, Tensor) and batch.ndim == 1:
            keys = batch  # row numbers
        self._watched.append((step, keys, loss.detach()))

    def reduce(self) -> tuple[dict[str, float], str | None]:
        """Return the means since the last call, and, if a loss was not finite, where it happened.

        All ranks must call it, and all get the same answer.
        """
        names = sorted(self._sums)
        means = [self._sums[name] / self._counts[name] for name in names]
        losses = [loss.double() for _, _, loss in self._watched]
        bad = (~torch.isfinite(torch.stack(losses))).any().double() if losses else None
        flag = torch.zeros((), dtype=torch.float64) if bad is None else bad
        packed = torch.stack([*means, flag.to(self.fabric.device)])
        if self.fabric.world_size > 1:
            distributed.all_reduce(packed)
            packed = packed / self.fabric.world_size
        *values, spoilt = packed.tolist()
        where = self._where() if spoilt else None
        self._sums, self._counts, self._watched = {}, {}, []
        return dict(zip(names, values, strict=True)), where

    def _where(self) -> str:
        """Return step, loss and keys of the first loss that is not finite on any rank."""
        mine = next(
            (
                (step, f"{float(loss)} on {_names(keys)}")
                for step, keys, loss in self._watched
                if not torch.isfinite(loss)
            ),
            None,
        )
        found = [entry for entry in gather(self.fabric, mine) if entry is not None]
        step, text = min(found)
        return f"step {step}: {text}"


def gather(fabric: Fabric, value: T) -> list[T]:
    """Return the plain value of every rank, on every rank."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    distributed.all_gather_object(values, value)
    return values


def _names(keys: Any) -> str:
    if isinstance(keys, Tensor):
        keys = [f"row {number}" for number in keys.tolist()]
    if not isinstance(keys, Sequence):
        return "this batch"
    names = [str(key) for key in keys]
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + more
