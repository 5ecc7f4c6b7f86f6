"""What a loader hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batch:
    """Some clips, ready for the device.

    What the view leaves out has its place, but no extent: pictures [batch, 0, 0, 3], or sound
    [batch, 0] at 0 Hz.
    """

    keys: list[str]
    labels: list[list[str]]
    image: NDArray[np.uint8]  # [batch, height, width, 3], RGB; [batch, n_frames, ...] if asked
    audio: NDArray[np.int16]  # [batch, samples], mono; int / 32768 lies in [-1, 1)
    audio_samples: NDArray[np.int64]  # [batch], how many of them are not padding
    sample_rate_hz: int
    frame_times_s: NDArray[np.float64] | None = None  # [batch, n_frames] from the clip's start
    skipped: Mapping[str, str] = field(default_factory=dict)  # key of a bad sample left out: why

    def __len__(self) -> int:
        return len(self.keys)
