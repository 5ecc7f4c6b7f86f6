"""Weakly paired clips: another clip that has a label in common, never the clip itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class WeakPairs:
    """For each of N clips, the other clips of its labels.

    alone: how many clips share no label with another one; these are their own partners.
    """

    def __init__(self, labels: Sequence[Sequence[str]]) -> None:
        """Take the labels of each clip; none, one or several."""
        groups: dict[str, list[int]] = defaultdict(list)
        for row, names in enumerate(labels):
            for name in dict.fromkeys(names):
                groups[name].append(row)
        shared = [np.array(rows) for rows in groups.values() if len(rows) > 1]
        own: list[list[tuple[int, int]]] = [[] for _ in labels]  # group and place in it
        for number, rows in enumerate(shared):
            for place, row in enumerate(rows.tolist()):
                own[row].append((number, place))
        self._groups, self._own = shared, own
        self.alone = sum(not places for places in own)

    def draw(self, rows: Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a partner's number for each of these clips, int64 [len(rows)].

        One of the clip's labels that others have too, uniformly; then any other clip of it.
        """
        found = np.array(rows, np.int64)
        for number, row in enumerate(rows):
            if not (places := self._own[row]):
                continue
            group, place = places[rng.integers(len(places))]
            members = self._groups[group]
            further = rng.integers(1, len(members))  # 0 steps on would be the clip itself
            found[number] = members[(place + further) % len(members)]
        return found
