"""Weak partners: a label in common, never the clip itself, all others equally often."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.sound_guided.weak_pairs import WeakPairs

labels = st.lists(st.lists(st.sampled_from("abcdef"), max_size=3), max_size=30)


@given(labels, st.integers(0, 2**32))
def test_partners_share_a_label(rows: list[list[str]], seed: int) -> None:
    pairs = WeakPairs(rows)
    found = pairs.draw(range(len(rows)), np.random.default_rng(seed))
    assert (found.shape, found.dtype) == ((len(rows),), np.int64)
    fallen_back = 0
    for row, partner in enumerate(found.tolist()):
        others = [k for k, names in enumerate(rows) if k != row and set(names) & set(rows[row])]
        assert partner in (others or [row])
        fallen_back += not others
    assert pairs.alone == fallen_back
    again = pairs.draw(range(len(rows)), np.random.default_rng(seed))
    assert again.tolist() == found.tolist()


def test_every_other_clip_of_the_label_is_equally_likely() -> None:
    pairs, rng, n = WeakPairs([["dog"]] * 5 + [["rain"]]), np.random.default_rng(0), 4000
    found = Counter(int(pairs.draw([2], rng)[0]) for _ in range(n))
    assert found.keys() == {0, 1, 3, 4}
    assert all(abs(count / n - 1 / 4) < 4 * np.sqrt(3 / 16 / n) for count in found.values())
    assert pairs.alone == 1
    assert pairs.draw([5, 5], rng).tolist() == [5, 5]


def test_a_label_counts_once_however_many_clips_it_has() -> None:
    """Clip 0 has two labels, with 1 and with 8 further clips: half of its partners are clip 1."""
    pairs = WeakPairs([["a", "b"], ["a"], *[["b"]] * 8, ["c"]])
    rng, n = np.random.default_rng(1), 2000
    share = np.mean([pairs.draw([0], rng)[0] == 1 for _ in range(n)])
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / n)
