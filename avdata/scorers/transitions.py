"""Cuts, dissolves and fades: where neighbouring frames differ though nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avdata.taggers.picture import hsv_histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUT_DIFFERENCE = 0.4  # as steps.tag.cut_difference by default
MEMORY_S = 1.0  # a flash is over, and the scene back, within this time
SAME_WAY = 0.9  # cosine between two changes of the picture that are one change
LEAST_STEP = 1.0  # mean grey levels: below, compression decides which way a picture changes
LEAST_DISSOLVE = 15.0  # mean grey levels from one end of a dissolve to the other


def transitions(thumbnails: NDArray[np.uint8], times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each step between neighbouring frames [T - 1] whether it is part of a transition.

    thumbnails: RGB [T, height, width, 3]. A cut is a step over which nothing seen shortly before
    is seen shortly after; the scene comes back after a flash of light. A dissolve or a fade is a
    run of steps that all change the picture in the same way, for it lies on a straight line from
    one picture to another; what moves leaves one place and enters the next.
    """
    return cuts(thumbnails, times_s) | dissolves(thumbnails)


def cuts(thumbnails: NDArray[np.uint8], times_s: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the steps [T - 1] over which every frame of the second before differs from every frame
    of the second after: their HSV histograms share less than 1 - CUT_DIFFERENCE."""
    histograms = np.stack([hsv_histogram(thumbnail) for thumbnail in thumbnails])
    found = np.zeros(len(thumbnails) - 1, bool)
    for step in range(len(found)):
        before = histograms[max(0, np.searchsorted(times_s, times_s[step] - MEMORY_S)) : step + 1]
        last = np.searchsorted(times_s, times_s[step + 1] + MEMORY_S, side="right")
        after = histograms[step + 1 : max(step + 2, last)]
        distances = np.abs(before[:, None] - after).sum(axis=2) / 2
        found[step] = distances.min() >= CUT_DIFFERENCE
    return found


def dissolves(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the steps [T - 1] of dissolves and fades, of two steps or more.

    Each step of a run has a cosine of at least SAME_WAY with the whole change so far, and the run
    changes the picture by LEAST_DISSOLVE or more.
    """
    changes = np.diff(thumbnails.reshape(len(thumbnails), -1).astype(np.float64), axis=0)
    sizes = np.abs(changes).mean(axis=1)
    found = np.zeros(len(changes), bool)
    first, so_far = 0, np.zeros(changes.shape[1])
    for step, change in enumerate(changes):
        if sizes[step] < LEAST_STEP or _cosine(change, so_far) < SAME_WAY:
            first, so_far = step, change.copy()
            continue
        so_far += change
        if np.abs(so_far).mean() >= LEAST_DISSOLVE:
            found[first : step + 1] = True
    return found


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(a @ b) / max(lengths, 1e-9)
