"""Histograms of a stream of values, in memory that does not grow with their number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

DIGITS = 3
NICE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass
class Tally:
    """How often each value came, values rounded to three significant digits.

    Rounding bounds the memory (900 entries per power of ten) and costs at most 0.5 % of a value;
    the sum and the count stay exact. Values that are not finite are left out.
    """

    counts: Counter[float] = field(default_factory=Counter)
    count: int = 0
    total: float = 0.0

    def add(self, values: ArrayLike) -> None:
        """Count the values of an array."""
        numbers = np.asarray(values, np.float64)
        numbers = numbers[np.isfinite(numbers)]
        self.count += len(numbers)
        self.total += float(numbers.sum())
        distinct, counts = np.unique(round_significant(numbers), return_counts=True)
        self.counts.update(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))

    @property
    def mean(self) -> float:
        """The exact mean; nan when nothing was counted."""
        return self.total / self.count if self.count else float("nan")

    def quantile(self, share: float) -> float:
        """Return the smallest value that at least `share` of the values do not exceed."""
        if not self.count:
            return float("nan")
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= share * self.count:
                break
        return value

    def histogram(self, edges: NDArray[np.float64]) -> list[int]:
        """Return how many values lie in each bin [edge, next edge), the last one closed."""
        values = np.fromiter(self.counts.keys(), np.float64, len(self.counts))
        weights = np.fromiter(self.counts.values(), np.float64, len(self.counts))
        return [int(n) for n in np.histogram(values, edges, weights=weights)[0]]


def round_significant(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values at three significant digits; zero stays zero."""
    magnitude = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    digits = (DIGITS - 1 - magnitude).astype(int)
    # Dividing by a whole power of ten gives the decimal's own float, so equal values meet.
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    rounded: NDArray[np.float64] = np.round(values * up / down) / up * down
    return rounded + 0.0  # -0.0 becomes 0.0


def nice_edges(low: float, high: float, bins: int = 24) -> NDArray[np.float64]:
    """Return bin edges at round numbers that cover [low, high] in at most `bins` + 1 bins."""
    if not high > low:
        margin = abs(low) * 0.1 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / bins
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(n * power for n in NICE_STEPS if n * power >= rough * (1 - 1e-9))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return np.asarray(np.arange(first, max(last, first + 1) + 1) * step, np.float64)
