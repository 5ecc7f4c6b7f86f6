"""Where no CLIP is to be had: class scores from a linear probe on real frames.

The probe learns from features of real training frames to name their classes, and is then asked
about generated pictures. Its R@k has the same layout as CLIP's but other values: it knows only the
classes it was taught, and the frames' own style. Results carry `description`, which says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from stages.metrics.bootstrap import Interval
from stages.metrics.linear_probe import LinearProbe
from stages.metrics.retrieval import recall_at_k

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class ProbeClassifier:
    """Features of pictures [N, D] → log-probabilities of the classes [N, C]."""

    def __init__(self, probe: LinearProbe, class_names: Sequence[str], description: str) -> None:
        self._probe = probe
        self.class_names = tuple(class_names)
        self.description = description

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        labels: Sequence[str],
        *,
        extractor: str,
        class_names: Sequence[str] | None = None,
        weight_decay: float = 1e-3,
    ) -> Self:
        """Fit to features [N, D] of real training frames and their class names [N].

        extractor: what made the features, for the description. class_names: the candidates and
        their order; without, all labels, sorted. Raises ValueError for a class without a frame.
        """
        names = sorted(set(labels)) if class_names is None else list(class_names)
        index = {name: i for i, name in enumerate(names)}
        if unknown := sorted(set(labels) - set(index)):
            raise ValueError(f"frames of classes that are no candidates: {', '.join(unknown)}")
        targets = np.array([index[label] for label in labels])
        probe = LinearProbe.fit(features, targets, len(names), weight_decay=weight_decay)
        description = (
            f"not CLIP: a linear probe on {extractor}, trained on {len(targets)} real frames of "
            f"{len(names)} classes"
        )
        return cls(probe, names, description)

    def similarity(self, features: ArrayLike) -> NDArray[np.float64]:
        """Return log p(class | picture) [N, C] of features [N, D], for recall_at_k."""
        return self._probe.log_probabilities(features)

    def held_out(
        self,
        features: ArrayLike,
        labels: Sequence[str],
        ks: Sequence[int],
        *,
        clusters: ArrayLike | None = None,
    ) -> dict[int, Interval]:
        """Return R@k on real held-out frames: how far the probe itself can be trusted."""
        targets = np.array([self.class_names.index(label) for label in labels])
        return recall_at_k(self.similarity(features), targets, ks, clusters=clusters)
