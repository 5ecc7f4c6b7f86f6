"""The Fréchet distance between two sets of features: FID, with Inception-v3's 2048.

    d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)        (Heusel et al., 2017)

With Σ = L Lᵀ, tr (Σ₁ Σ₂)^½ is the sum of the singular values of L₁ᵀ L₂: real and positive by
construction, without an offset on the diagonal, and exact to rounding also for sets smaller than
their dimension, whose covariances have no inverse.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from stages.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_linear

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(slots=True)
class Gaussian:
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

    def merge(self, other: Gaussian) -> None:
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
    one, two = Gaussian.of(features_1), Gaussian.of(features_2)
    return frechet_distance(one.mean, one.covariance, two.mean, two.covariance)


@dataclass(frozen=True, slots=True)
class Reference:
    """The set to which others are compared, factored once."""

    mean: NDArray[np.float64]  # [D]
    half: NDArray[np.float64]  # L [D, rank]
    variance: float  # tr Σ

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Return the reference of features [N, D]; raises ValueError below two of them."""
        moments = Gaussian.of(features)
        covariance = moments.covariance
        if moments.count > moments.dim:
            half = factor(covariance)
        else:  # the deviations themselves are a factor, and no larger
            half = (np.asarray(features, np.float64) - moments.mean).T / np.sqrt(moments.count - 1)
        return cls(moments.mean, half, float(np.trace(covariance)))


def fid_interval(
    features: ArrayLike,
    reference: Reference,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Return the distance of features [N, D] to a reference, and its linearised bootstrap interval.

    Only `features` are resampled, the reference stays as it is. The interval is about this N: that
    FID falls as N grows is no part of it.

    With cᵢ = xᵢ − μ₁, the rows bᵢ = cᵢ L₂ / √(N − 1) of B and M = Bᵀ B, whose trace of the root is
    that of (Σ₁ Σ₂)^½, the influence of xᵢ is, less its mean,

        φᵢ = 2 (μ₁ − μ₂) · cᵢ + N / (N − 1) ‖cᵢ‖² − N bᵢ M^{−½} bᵢᵀ

    as d tr M^½ = ½ tr(M^{−½} dM). One eigendecomposition, of the smaller of M and B Bᵀ, gives the
    distance, to about 8 digits, and all φ.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or x.shape[1] != len(reference.mean) or len(x) < 2:
        raise ValueError(
            f"features must be [N, {len(reference.mean)}] with N above 1, got {x.shape}"
        )
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinity; no distance can be taken")
    n, mean = len(x), x.mean(axis=0)
    a = (x - mean) / np.sqrt(n - 1)
    b = a @ reference.half
    wide = n < b.shape[1]
    squares, vectors = np.linalg.eigh(b @ b.T if wide else b.T @ b)  # of the singular values of B
    roots = np.sqrt(np.clip(squares, 0, None))
    real = squares > squares[-1] * len(squares) * np.finfo(np.float64).eps
    own = vectors[:, real] if wide else b @ (vectors[:, real] / roots[real])  # U [N, rank]

    shift = mean - reference.mean
    lengths = (a * a).sum(axis=1)
    distance = shift @ shift + lengths.sum() + reference.variance - 2 * roots.sum()
    influence = 2 * np.sqrt(n - 1) * (a @ shift) + n * lengths - n * (own**2 @ roots[real])
    interval = bootstrap_linear(
        float(distance),
        influence - influence.mean(),
        clusters=clusters,
        resamples=resamples,
        level=level,
        seed=seed,
    )
    return replace(interval, low=max(0.0, interval.low)) if interval.low < 0 else interval
