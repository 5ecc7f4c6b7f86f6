"""Flicker that a film did not have before it was changed, without optical flow.

With input pictures x_t and output pictures y_t, full scale 1, of pixels and channels p:

    flicker = mean_{t,p} max(0, |y_{t+1,p} − y_{t,p}| − |x_{t+1,p} − x_{t,p}|)

What moves or flashes in the input may change as much in the output; only what changes more counts.
0: the output is nowhere less steady than the input. An output that jumps by ±a over a still input
has 2a; the input's own motion with a contrast of c > 1 has (c − 1) times that motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Flicker:
    """Counts picture by picture, so that no film need be held.

    before, after: mean |x_{t+1} − x_t| and mean |y_{t+1} − y_t|, the motion of both.
    """

    _excess: float = 0.0
    _before: float = 0.0
    _after: float = 0.0
    _steps: int = 0
    _last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def add(self, x: NDArray[np.uint8], y: NDArray[np.uint8]) -> None:
        """Take the next picture before and after, uint8 [H, W, 3].

        Raises ValueError if they differ in size, from each other or from those before.
        """
        now = (x.astype(np.float32) / np.float32(255), y.astype(np.float32) / np.float32(255))
        if x.shape != y.shape or (self._last is not None and self._last[0].shape != x.shape):
            before = "" if self._last is None else f", after pictures {self._last[0].shape}"
            raise ValueError(f"pictures differ in size: {x.shape} and {y.shape}{before}")
        if self._last is not None:
            moved, changed = (np.abs(new - old) for new, old in zip(now, self._last, strict=True))
            self._excess += float(np.maximum(0, changed - moved).mean(dtype=np.float64))
            self._before += float(moved.mean(dtype=np.float64))
            self._after += float(changed.mean(dtype=np.float64))
            self._steps += 1
        self._last = now

    @property
    def value(self) -> float:
        """The flicker, from 0 to 1; 0 for a film of fewer than two pictures."""
        return self._excess / max(1, self._steps)

    @property
    def before(self) -> float:
        return self._before / max(1, self._steps)

    @property
    def after(self) -> float:
        return self._after / max(1, self._steps)

    def to_json(self) -> dict[str, float]:
        """Return all three."""
        return {"flicker": self.value, "motion_before": self.before, "motion_after": self.after}


def flicker(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> float:
    """Return the flicker of pictures y [T, H, W, 3] that were made of x, one by one."""
    counted = Flicker()
    for before, after in zip(x, y, strict=True):
        counted.add(before, after)
    return counted.value
