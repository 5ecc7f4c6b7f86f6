"""From features to figures, each with its interval over source videos; nothing is read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.metrics.bootstrap import Interval, bootstrap_mean
from stages.metrics.diversity import spread
from stages.metrics.frechet import Reference, fid_interval
from stages.metrics.gap import modality_gap
from stages.metrics.inception_score import inception_score, inception_score_interval
from stages.metrics.projection import Method, project
from stages.metrics.retrieval import paired_recall, per_class_recall, recall_at_k
from stages.metrics.scatter import scatter_svg

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from stages.pairs.samples import Samples

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How intervals are drawn: by source video."""

    sources: Sequence[str]  # [N], the video of each clip
    resamples: int
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        return {"clusters": self.sources, "resamples": self.resamples, "seed": self.seed}


def recall(
    similarity: ArrayLike, targets: NDArray[np.int64], ks: Sequence[int], sampling: Sampling
) -> Figures:
    """Return {"R@1": interval, ...} in [0, 1] of similarities [N, C] to the classes [N]."""
    found = recall_at_k(similarity, targets, ks, **sampling.options)
    return {f"R@{k}": interval.to_json() for k, interval in found.items()}


def by_class(
    similarity: ArrayLike,
    targets: NDArray[np.int64],
    ks: Sequence[int],
    classes: Sequence[str],
    sampling: Sampling,
) -> Figures:
    """Return the same for the clips of each class that has any."""
    found: dict[str, Figures] = {}
    for k in ks:
        own = per_class_recall(similarity, targets, k, **sampling.options)
        for number, interval in own.items():
            found.setdefault(classes[number], {})[f"R@{k}"] = interval.to_json()
    return found


def frechet(
    features: NDArray[np.float32], reference: Reference, sampling: Sampling
) -> dict[str, float | None]:
    """Return the Fréchet distance of features [N, D] to a reference set."""
    return fid_interval(features, reference, **sampling.options).to_json()


def inception(logits: ArrayLike, splits: int, sampling: Sampling) -> Figures:
    """Return the Inception score of the whole set, and its mean and deviation over splits.

    Sets that are smaller than `splits` are split into single pictures.
    """
    scores = np.asarray(logits)
    splits = min(splits, len(scores))
    mean, deviation = inception_score(scores, splits, seed=sampling.seed)
    whole = inception_score_interval(scores, **sampling.options)
    return {
        "IS": whole.to_json(),
        "IS_over_splits": {"mean": mean, "deviation": deviation, "splits": splits},
    }


def diversity(sets: Sequence[Samples], sampling: Sampling) -> Figures:
    """Return how far pictures of one row lie apart: their deviation, pixel by pixel.

    sets: two or more of N pictures of one size each. For a row with pictures x_1 … x_M in [0, 1],
    the root of the mean over pixels of Var(x), unbiased; then the mean over rows. 0: all alike.
    """
    found = [spread(np.stack([own.read([row])[0] for own in sets])) for row in range(len(sets[0]))]
    return {"diversity": bootstrap_mean(found, **sampling.options).to_json()}


def gap(z_v: NDArray[np.float32], z_a: NDArray[np.float32], sampling: Sampling) -> Figures:
    """Return magnitude, orthogonality, centre and alignment of paired features [N, D], and how
    often the nearest of all is the own one."""
    found = modality_gap(z_v, z_a, **sampling.options)
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    to_picture, to_sound = paired_recall(z_a, z_v, (1,), **sampling.options)
    values |= {"R@1_to_picture": to_picture[1], "R@1_to_sound": to_sound[1]}
    return {k: v.to_json() if isinstance(v, Interval) else v for k, v in values.items()}


def gap_plot(
    z_v: NDArray[np.float32],
    z_a: NDArray[np.float32],
    classes: Sequence[str],
    *,
    method: Method,
    most: int,
    seed: int,
) -> tuple[str, Figures]:
    """Return a picture (SVG) of both modalities on one plane, and how it came about.

    Of more than `most` pairs, a random choice is drawn.
    """
    rows = np.arange(len(z_v))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    plane = project(np.concatenate([z_v[rows], z_a[rows]]), method, seed=seed)
    names = [classes[row] for row in rows.tolist()]
    kinds = ["picture"] * len(rows) + ["sound"] * len(rows)
    caption = f"{plane.method}; {len(rows)} pictures and their sounds"
    svg = scatter_svg(plane.points, names * 2, kinds, caption)
    return svg, {"method": plane.method, "pairs": len(rows)}
