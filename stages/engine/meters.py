"""Means over steps and ranks, and whether losses are finite: both without a wait per step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed

T = TypeVar("T")
N = TypeVar("N", bound=Sized)
SHOWN_KEYS = 8


class Meters:
    """Collects values on the device; `reduce` brings them home."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._watched: list[tuple[int, str, Any, Tensor]] = []  # step, what, batch's keys, value

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Take in the values of one step; the same names on all ranks."""
        for name, value in values.items():
            tensor = torch.as_tensor(value, dtype=torch.float64, device=self.fabric.device).detach()
            self._sums[name] = self._sums[name] + tensor if name in self._sums else tensor
            self._counts[name] = self._counts.get(name, 0) + 1

    def watch(self, step: int, what: str, value: Tensor, batch: Any = None) -> None:
        """Remember a value and the names of what it was computed on, to be checked by `reduce`."""
        self._watched.append((step, what, _keys(batch), value.detach()))

    def reduce(self) -> tuple[dict[str, float], str | None]:
        """Return the means since the last call, and what was not finite and where, if anything.

        All ranks must call it, and all get the same answer.
        """
        names = sorted(self._sums)
        means = [self._sums[name] / self._counts[name] for name in names]
        watched = [value.double() for *_, value in self._watched]
        bad = (~torch.isfinite(torch.stack(watched))).any().double() if watched else None
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
        """Return the first value that is not finite on any rank; a loss before a gradient."""
        mine = next(
            (
                (step, keys is None, f"{what} is not finite at step {step}: {float(value)}{on}")
                for step, what, keys, value in self._watched
                for on in ["" if keys is None else f" on {_names(keys)}"]
                if not torch.isfinite(value)
            ),
            None,
        )
        found = [entry for entry in gather(self.fabric, mine) if entry is not None]
        return min(found)[-1]


def gather(fabric: Fabric, value: T) -> list[T]:
    """Return the plain value of every rank, on every rank."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    distributed.all_gather_object(values, value)
    return values


def mean_over_samples(
    fabric: Fabric, batches: Iterable[N], values_of: Callable[[N], Mapping[str, Tensor]]
) -> dict[str, float]:
    """Return the means over the samples of all batches of all ranks, by name.

    values_of: from a batch to means over its samples.
    """
    sums: dict[str, float] = {}
    count = 0
    for batch in batches:
        for name, value in values_of(batch).items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
        count += len(batch)
    parts = gather(fabric, (sums, count))
    total = sum(n for _, n in parts)
    names = sorted({name for part, _ in parts for name in part})
    return {name: sum(p.get(name, 0.0) for p, _ in parts) / total for name in names}


def _keys(batch: Any) -> Any:
    """Return what names the samples of a batch, or of the first part of it that can be named."""
    if isinstance(batch, tuple | list):
        return next((keys for keys in map(_keys, batch) if keys is not None), None)
    if isinstance(batch, Tensor) and batch.ndim == 1:
        return batch  # row numbers
    return getattr(batch, "keys", None)


def _names(keys: Any) -> str:
    if isinstance(keys, Tensor):
        keys = [f"row {number}" for number in keys.tolist()]
    if not isinstance(keys, Sequence):
        return "this batch"
    names = [str(key) for key in keys]
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + more
