"""A linear probe: multinomial logistic regression on standardised features.

    min over W, b of  − (1/N) Σ log softmax(Wᵀ x̂ + b)_y + (λ/2) ‖W‖²,   x̂ = (x − μ) / σ

Convex, solved to its optimum by L-BFGS in float64, so the same features give the same probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TOLERANCE = 1e-7  # on the largest component of the gradient


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A fitted probe of D features and C classes."""

    mean: NDArray[np.float64]  # [D]
    scale: NDArray[np.float64]  # [D]
    weight: NDArray[np.float64]  # [D, C]
    bias: NDArray[np.float64]  # [C]

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        labels: ArrayLike,
        n_classes: int,
        *,
        weight_decay: float = 1e-3,
        max_iterations: int = 1000,
    ) -> LinearProbe:
        """Fit to features [N, D] and labels [N] in [0, n_classes).

        Raises ValueError for a class without an example: the probe could never name it.
        """
        x, y = np.asarray(features, np.float64), np.asarray(labels)
        if x.ndim != 2 or y.shape != x.shape[:1] or not np.isfinite(x).all():
            raise ValueError(f"need finite features [N, D], labels [N]; got {x.shape}, {y.shape}")
        if n_classes < 2:
            raise ValueError(f"a probe needs at least 2 classes to tell apart, got {n_classes}")
        if missing := sorted(set(range(n_classes)) - set(y.tolist())):
            raise ValueError(f"no training example of class {missing}; every class needs one")
        if y.min() < 0 or y.max() >= n_classes:
            raise ValueError(f"labels must be in [0, {n_classes}), got {y.min()} to {y.max()}")
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale < 1e-8 * np.maximum(np.abs(mean), 1.0)] = 1.0  # a constant feature says nothing
        x = (x - mean) / scale
        n, dim = x.shape
        one_hot = np.eye(n_classes)[y]

        def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            table = parameters.reshape(dim + 1, n_classes)
            weight, bias = table[:-1], table[-1]
            log_p = log_softmax(x @ weight + bias, axis=1)
            value = -(one_hot * log_p).sum() / n + weight_decay / 2 * (weight**2).sum()
            error = (np.exp(log_p) - one_hot) / n
            gradient = np.vstack([x.T @ error + weight_decay * weight, error.sum(axis=0)])
            return float(value), gradient.ravel()

        result = minimize(
            loss,
            np.zeros((dim + 1) * n_classes),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iterations, "gtol": TOLERANCE, "ftol": 0.0},
        )
        table = result.x.reshape(dim + 1, n_classes)
        return cls(mean, scale, table[:-1], table[-1])

    def log_probabilities(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return log p(class | x) [N, C] of features [N, D]: a similarity for recall_at_k."""
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"features must be [N, {len(self.mean)}], got {x.shape}")
        logits = ((x - self.mean) / self.scale) @ self.weight + self.bias
        result: NDArray[np.float64] = log_softmax(logits, axis=1)
        return result
