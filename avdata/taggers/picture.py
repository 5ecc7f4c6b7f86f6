"""Still pictures, motion, cuts and brightness, seen on the candidate frames alone.

What happens between two candidate frames is not seen: eight frames of ten seconds show that a
picture stands still or that the scene changed, not how often it did.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from avdata.taggers.base import Sample, Tags

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Stillness:
    """How much neighbouring candidate frames differ, and how often they do not."""

    names: ClassVar[tuple[str, ...]] = ("still_share", "motion")

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def fingerprint(self) -> dict[str, Any]:
        return {"still_difference": self._threshold}

    def tag(self, sample: Sample) -> Tags:
        if len(sample.greys) < 2:
            return Tags()
        differences = np.array([np.abs(b - a).mean() for a, b in pairwise(sample.greys)])
        return Tags(
            {
                "still_share": float((differences < self._threshold).mean()),
                "motion": float(differences.mean(dtype=np.float64)),
            }
        )


class Scenes:
    """Cuts between neighbouring candidate frames, by the distance of their HSV histograms."""

    names: ClassVar[tuple[str, ...]] = ("scene_cuts",)

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold

    def fingerprint(self) -> dict[str, Any]:
        return {"cut_difference": self._threshold}

    def tag(self, sample: Sample) -> Tags:
        if len(sample.thumbnails) < 2:
            return Tags()
        histograms = [hsv_histogram(picture) for picture in sample.thumbnails]
        distances = [np.abs(b - a).sum() / 2 for a, b in pairwise(histograms)]
        return Tags({"scene_cuts": float(sum(d >= self._threshold for d in distances))})


def hsv_histogram(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the shares [128] of RGB uint8 pixels in 8 hues x 4 saturations x 4 values.

    Half the sum of absolute differences of two histograms is the share of pixels that changed
    colour: 0 for equal ones, 1 for disjoint ones. Hue is ignored where there is next to no colour.
    """
    from PIL import Image

    hue, saturation, value = np.moveaxis(np.asarray(Image.fromarray(picture).convert("HSV")), -1, 0)
    saturation, value = saturation >> 6, value >> 6
    hue = np.where((saturation > 0) & (value > 0), hue >> 5, 0)
    bins = (hue * 16 + saturation * 4 + value).ravel()
    shares: NDArray[np.float64] = np.bincount(bins, minlength=128) / bins.size
    return shares


class Brightness:
    """The mean grey level."""

    names: ClassVar[tuple[str, ...]] = ("brightness",)

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def tag(self, sample: Sample) -> Tags:
        if not sample.greys:
            return Tags()
        return Tags({"brightness": float(np.mean([g.mean() for g in sample.greys]))})
