"""The Fréchet distance between two sets of features: FID, with Inception-v3's 2048.

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)        (Heusel et al., 2017)

With Σ = L Lᵀ, tr (Σ₁ Σ₂)^½ is the sum of the singular values of L₁ᵀ L₂: real and positive by
construction, without an offset on the diagonal, and exact to rounding also for sets smaller than
their dimension, whose covariances have no inverse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from stages.metrics.bootstrap import LEVEL, Interval, bootstrap

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(slots=True)
class Moments:
    """Mean and covariance of features that arrive in batches, float64 and stable.

    Batches are joined by the pairwise update of Chan, Golub and LeVeque (1979), so that nothing
    cancels and sets counted apart (on several processes) can be merged.
    """

    dim: int
    count: int = 0
    mean: NDArray[np.float64] = field(init=False)  # [D]
    scatter: NDArray[np.float64] = field(init=False)  # [D, D], sum of (x − μ)(x − μ)ᵀ

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.dim)
        self.scatter = np.zeros((self.dim, self.dim))

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Return the moments of one array of features [N, D]."""
        x = np.asarray(features)
        if x.ndim != 2:
            raise ValueError(f"features must be [N, D], got {x.shape}")
        moments = cls(x.shape[1])
        moments.update(x)
        return moments

    def update(self, features: ArrayLike) -> None:
        """Add a batch of features [N, D]."""
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"features must be [N, {self.dim}], got {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features hold NaN or infinity; no distance can be taken")
        if not len(x):
            return
        mean = x.mean(axis=0)
        deviations = x - mean
        self._join(len(x), mean, deviations.T @ deviations)

    def merge(self, other: Moments) -> None:
        """Add all that `other` has seen."""
        if other.dim != self.dim:
            raise ValueError(f"cannot merge moments of {other.dim} and {self.dim} dimensions")
        if other.count:
            self._join(other.count, other.mean, other.scatter)

    def _join(self, count: int, mean: NDArray[np.float64], scatter: NDArray[np.float64]) -> None:
        total = self.count + count
        shift = mean - self.mean
        self.scatter += scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean += shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The unbiased covariance [D, D]; raises ValueError below two observations."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 observations, got {self.count}")
        return self.scatter / (self.count - 1)


def factor(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return L [D, rank] with L Lᵀ = Σ [D, D]; directions that hold only rounding are dropped."""
    values, vectors = np.linalg.eigh(covariance)
    real = values > values[-1] * len(values) * np.finfo(np.float64).eps
    half: NDArray[np.float64] = vectors[:, real] * np.sqrt(values[real])
    return half


def frechet_distance(
    mean_1: ArrayLike, covariance_1: ArrayLike, mean_2: ArrayLike, covariance_2: ArrayLike
) -> float:
    """Return d² between two Gaussians given by means [D] and covariances [D, D]."""
    m1, m2 = np.asarray(mean_1, np.float64), np.asarray(mean_2, np.float64)
    s1, s2 = np.asarray(covariance_1, np.float64), np.asarray(covariance_2, np.float64)
    if m1.shape != m2.shape or s1.shape != s2.shape or s1.shape != (m1.size, m1.size):
        raise ValueError(
            f"means and covariances must be [D] and [D, D], got {m1.shape}, {s1.shape} and "
            f"{m2.shape}, {s2.shape}"
        )
    cross = np.linalg.svd(factor(s1).T @ factor(s2), compute_uv=False).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


def fid(features_1: ArrayLike, features_2: ArrayLike) -> float:
    """Return the Fréchet distance between features [N, D] and [M, D]."""
    one, two = Moments.of(features_1), Moments.of(features_2)
    return frechet_distance(one.mean, one.covariance, two.mean, two.covariance)


def fid_interval(
    features: ArrayLike,
    reference: Moments,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = 50,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the distance of features [N, D] to a reference, and its bootstrap interval.

    Only `features` are resampled, the reference stays as it is. Repeated images shrink the
    covariance and push the distance up, so the interval is recentred on the value.

    With A the centred features / √(N − 1), Σ₁ = Aᵀ A, and the singular values of A L₂ are the
    roots of the eigenvalues of its smaller Gram matrix: four times faster, to about 8 digits.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or x.shape[1] != reference.dim or len(x) < 2:
        raise ValueError(f"features must be [N, {reference.dim}] with N above 1, got {x.shape}")
    variance = np.trace(reference.covariance)
    half = factor(reference.covariance)

    def distance(indices: NDArray[np.int64]) -> float:
        drawn = x[indices]
        mean = drawn.mean(axis=0)
        a = (drawn - mean) / np.sqrt(len(drawn) - 1)
        b = a @ half
        gram = b @ b.T if len(b) < b.shape[1] else b.T @ b
        cross = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None)).sum()
        apart = ((mean - reference.mean) ** 2).sum()
        return float(apart + (a * a).sum() + variance - 2 * cross)

    return bootstrap(
        distance,
        len(x),
        clusters=clusters,
        resamples=resamples,
        level=level,
        seed=seed,
        recentre=True,
    )
