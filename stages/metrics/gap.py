"""The gap between the two modalities of a shared space, and how well pairs align.

With z_V and z_A of unit length and g = z_V − z_A of one pair (Zhang et al., "Diagnosing and
Rectifying Vision Models using Language", 2023):

    magnitude       E‖g‖
    orthogonality   cos(v − E v, E g), near 0 where the gap is one constant direction
    centre          ‖E[v − (v · g′) g′]‖ with g′ = E g / ‖E g‖
    alignment       E[z_V · z_A], and E‖g‖² = 2 − 2 · alignment
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TINY = 1e-12


@dataclass(frozen=True, slots=True)
class ModalityGap:
    """The figures of one pair of modalities; V is the image, A the sound."""

    magnitude: Interval  # E‖g‖, in [0, 2]
    mean_gap: float  # ‖E g‖, at most the magnitude
    orthogonality_image: Interval  # E cos(v − E v, E g), in [-1, 1]
    orthogonality_audio: Interval
    centre_image: float  # in [0, 1]
    centre_audio: float
    alignment: Interval  # E[z_V · z_A], in [-1, 1]


def unit(features: ArrayLike) -> NDArray[np.float64]:
    """Return features [N, D] at unit length, float64; raises ValueError for a row without one."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"features must be [N, D] with N above 0, got {x.shape}")
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        bad = int(np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] <= 0))[0])
        raise ValueError(f"row {bad} of the features is zero or not finite, it has no direction")
    result: NDArray[np.float64] = x / length
    return result


def modality_gap(
    images: ArrayLike,
    sounds: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> ModalityGap:
    """Return the gap between paired features [N, D] of images and sounds, of any length."""
    v, a = unit(images), unit(sounds)
    if v.shape != a.shape:
        raise ValueError(f"paired features must have one shape, got {v.shape} and {a.shape}")
    g = v - a
    mean_g = g.mean(axis=0)

    def interval(values: NDArray[np.float64]) -> Interval:
        return bootstrap_mean(
            values, clusters=clusters, resamples=resamples, level=level, seed=seed
        )

    return ModalityGap(
        magnitude=interval(np.linalg.norm(g, axis=1)),
        mean_gap=float(np.linalg.norm(mean_g)),
        orthogonality_image=interval(_cosine_to(v - v.mean(axis=0), mean_g)),
        orthogonality_audio=interval(_cosine_to(a - a.mean(axis=0), mean_g)),
        centre_image=_centre(v, mean_g),
        centre_audio=_centre(a, mean_g),
        alignment=interval((v * a).sum(axis=1)),
    )


def _cosine_to(rows: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(direction)
    cosines: NDArray[np.float64] = (rows @ direction) / np.maximum(lengths, TINY)
    return cosines


def _centre(rows: NDArray[np.float64], mean_g: NDArray[np.float64]) -> float:
    direction = mean_g / max(float(np.linalg.norm(mean_g)), TINY)
    centre = rows.mean(axis=0)
    return float(np.linalg.norm(centre - (centre @ direction) * direction))
