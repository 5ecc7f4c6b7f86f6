"""cIoU and AUC of localisation maps against the boxes of VGG-SS.

The protocol of Chen et al. ("Localizing Visual Sounds the Hard Way", 2021):

1. The boxes give a consensus map g: each pixel the share of annotators who agree on it.
2. The model's map is upsampled bilinearly to the picture, and the brighter half of its pixels
   gives the mask m.
3. cIoU = Σ m g / (Σ g + Σ m [g = 0])                     (Senocak et al., 2018)
4. Reported are the share of pictures with cIoU ≥ 0.5, and the area under the curve of that share
   over the thresholds 0, 0.05, ... 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

THRESHOLDS = np.arange(21) / 20


@dataclass(frozen=True, slots=True)
class LocalisationScores:
    """Figures over all pictures, each in [0, 1]."""

    success: Interval  # share with cIoU at or above the threshold
    auc: Interval
    mean: Interval  # mean cIoU


def consensus_map(
    boxes: ArrayLike, height_px: int, width_px: int, agreement: int = 1
) -> NDArray[np.float64]:
    """Return the consensus map [H, W] in [0, 1] of boxes [A, 4].

    A box is (left, top, right, bottom) in fractions of the picture. A pixel is fully agreed on
    where at least `agreement` boxes cover it: 1, the union, for VGG-SS, whose boxes are already a
    consensus; 2 for the three annotators of Flickr-SoundNet.
    """
    b = np.asarray(boxes, np.float64)
    if b.ndim != 2 or b.shape[1] != 4 or not ((b >= 0) & (b <= 1)).all():
        raise ValueError(f"boxes must be [A, 4] fractions in [0, 1], got {b.tolist()}")
    covered = np.zeros((height_px, width_px))
    for left, top, right, bottom in (b * (width_px, height_px, width_px, height_px)).astype(int):
        covered[top:bottom, left:right] += 1
    return np.minimum(covered / agreement, 1.0)


def upsample(heat: ArrayLike, height_px: int, width_px: int) -> NDArray[np.float64]:
    """Return a map [h, w] at the size of its picture, bilinear between pixel centres."""
    from PIL import Image

    low = np.ascontiguousarray(heat, np.float32)
    if low.ndim != 2 or not np.isfinite(low).all():
        raise ValueError(f"a map must be finite numbers [h, w], got shape {low.shape}")
    picture = Image.fromarray(low).resize((width_px, height_px), Image.Resampling.BILINEAR)
    return np.asarray(picture, np.float64)


def brighter_part(heat: NDArray[np.float64], share: float = 0.5) -> NDArray[np.bool_]:
    """Return the mask [H, W] of the pixels above all but the brightest `share` of the map.

    Pixels level with the threshold are left out, so a constant map gives an empty mask.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    flat = np.sort(heat, axis=None)
    mask: NDArray[np.bool_] = heat > flat[int(len(flat) * (1 - share))]
    return mask


def ciou(mask: ArrayLike, consensus: ArrayLike) -> float:
    """Return Σ m g / (Σ g + Σ m [g = 0]) of a mask and a consensus map, both [H, W]."""
    m, g = np.asarray(mask, bool), np.asarray(consensus, np.float64)
    if m.shape != g.shape:
        raise ValueError(f"mask and consensus must have one shape, got {m.shape} and {g.shape}")
    if not g.any():
        raise ValueError("the consensus map is empty: the picture has no box of any area")
    return float(g[m].sum() / (g.sum() + np.count_nonzero(m & (g == 0))))


def localisation_scores(
    cious: ArrayLike,
    threshold: float = 0.5,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> LocalisationScores:
    """Return success rate, AUC and mean of the cIoU of all pictures [N], with intervals.

    The area under the mean curve is the mean of the areas under each picture's own step.
    """
    values = _checked(cious)
    steps = (values[:, None] >= THRESHOLDS).astype(np.float64)
    areas = (steps[:, 1:] + steps[:, :-1]).mean(axis=1) / 2  # trapezoids over [0, 1]

    def interval(per_picture: NDArray[np.float64]) -> Interval:
        return bootstrap_mean(
            per_picture, clusters=clusters, resamples=resamples, level=level, seed=seed
        )

    return LocalisationScores(
        success=interval((values >= threshold).astype(np.float64)),
        auc=interval(areas),
        mean=interval(values),
    )


def _checked(cious: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(cious, np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"cIoU must be numbers in [0, 1], [N] with N above 0, got {values}")
    return values
