"""Batches as tensors on the device: endless, counted, resumable.

Pictures and sound travel as integers and become floats on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avdata.loader import Batch, Loader

Given = TypeVar("Given")
Made = TypeVar("Made")
Given_co = TypeVar("Given_co", covariant=True)
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """Some clips on the device; what the view leaves out is empty: [B, 3, 0, 0] or [B, 0]."""

    keys: list[str]
    labels: list[list[str]]
    image: Tensor  # [B, 3, H, W], or [B, T, 3, H, W] of T frames; float32, (x / 255 - mean) / std
    audio: Tensor  # [B, samples] float32 in [-1, 1), mono
    audio_samples: Tensor  # [B] int64, how many of the samples are not padding
    frame_times_s: Tensor | None = None  # [B, T] from the clip's start; float64, so on the CPU

    def __len__(self) -> int:
        return len(self.keys)


def to_tensors(batch: Batch, device: torch.device, mean: Triple, std: Triple) -> TensorBatch:
    """Return the batch on `device`: pictures (x / 255 - mean) / std, sound x / 32768."""
    times_s = batch.frame_times_s
    return TensorBatch(
        keys=batch.keys,
        labels=batch.labels,
        image=normalised(batch.image, device, mean, std),
        audio=_sent(batch.audio, device).float().div_(32768),
        audio_samples=_sent(batch.audio_samples, device),
        frame_times_s=None if times_s is None else torch.from_numpy(times_s),
    )


def normalised(
    images: NDArray[np.uint8], device: torch.device, mean: Triple, std: Triple
) -> Tensor:
    """Return uint8 [..., H, W, 3] as float32 [..., 3, H, W] on `device`: (x / 255 - mean) / std."""
    pictures = _sent(images, device).movedim(-1, -3).contiguous().float()
    low = torch.tensor(mean, device=device).view(3, 1, 1) * 255
    scale = torch.tensor(std, device=device).view(3, 1, 1) * 255
    return pictures.sub_(low).div_(scale)


def _sent(array: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda" and array.size:  # pinned, the copy runs beside the computation
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


class Source(Protocol[Given_co]):
    """One epoch's micro-batches of this rank per iteration, with a position that can be saved."""

    def __iter__(self) -> Iterator[Given_co]: ...
    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Batches(Generic[Given, Made]):
    """Micro-batches without end: epoch after epoch, each in an order of its own.

    An epoch ends with its last whole update of `accumulate` micro-batches, so that its updates do
    not depend on how they are divided. `len` is the number of updates of an epoch.
    """

    def __init__(
        self, source: Source[Given], convert: Callable[[Given], Made], accumulate: int = 1
    ) -> None:
        self.source, self.convert, self.accumulate = source, convert, accumulate
        self.epoch = 0
        self.waited_s = 0.0  # time spent waiting for data since the start
        self._updates = len(source) // accumulate
        self._used = 0  # micro-batches of this epoch
        self._iterator: Iterator[Given] | None = None

    def __len__(self) -> int:
        return self._updates

    def __iter__(self) -> Iterator[Made]:
        return self

    def __next__(self) -> Made:
        started = time.perf_counter()
        if self._used == self._updates * self.accumulate:
            self._close()
            self.epoch, self._used = self.epoch + 1, 0
        if self._iterator is None:
            self.source.set_epoch(self.epoch)
            self._iterator = iter(self.source)
        given = next(self._iterator)
        self._used += 1
        made = self.convert(given)
        self.waited_s += time.perf_counter() - started
        return made

    def state_dict(self) -> dict[str, Any]:
        """Return the position; take it between updates only."""
        position = {"epoch": self.epoch, "updates": self._used // self.accumulate}
        return {**position, "source": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position, also with another number of ranks or micro-batches."""
        self._close()
        self.epoch, self._used = state["epoch"], state["updates"] * self.accumulate
        self.source.load_state_dict(state["source"])

    def _close(self) -> None:
        """Let go of what the source has read ahead."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
        self._iterator = None


class HeldOut:
    """One pass over a split in a fixed order, each time the same; iterate as often as needed."""

    def __init__(self, loader: Loader, convert: Callable[[Batch], TensorBatch]) -> None:
        self.loader, self.convert = loader, convert

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[TensorBatch]:
        self.loader.set_epoch(0)
        return map(self.convert, self.loader)
