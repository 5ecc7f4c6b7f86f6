"""Which split each clip belongs to, and which clips are the same one under another name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avdata.seeding import keyed_fraction

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SPLIT_NAMES = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}


FEW_SOURCES = 1000  # above it, hashes miss a share by about 1 % at the most


@dataclass(frozen=True)
class Candidates:
    """The accepted clips, in the order of their tables: what decides where each one goes."""

    keys: pa.ChunkedArray
    sources: pa.ChunkedArray  # name of the source video
    official_splits: pa.ChunkedArray  # as the manifest has it; "" where it has none
    content: NDArray[np.uint64]  # of the source file; 0 when unknown
    start_ms: NDArray[np.int64]
    end_ms: NDArray[np.int64]
    tar_bytes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)


def group_by_source(clips: Candidates) -> NDArray[np.int64]:
    """Return the number of each clip's source video.

    Two names for one content, or two contents under one name, count as one source.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(clips):
        return np.zeros(0, np.int64)
    name = clips.sources.combine_chunks().dictionary_encode().indices.to_numpy()
    content = np.unique(clips.content, return_inverse=True)[1]
    known = clips.content != 0
    names = int(name.max()) + 1
    nodes = names + int(content.max()) + 1
    links = (name[known], content[known] + names)
    graph = coo_array((np.ones(int(known.sum()), np.int8), links), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1][name]
    return np.unique(component, return_inverse=True)[1].astype(np.int64)


def group_by_clip(earlier: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number of its own for each clip, the same for the same clip under another name.

    earlier: what `find_duplicates` gives.
    """
    first = np.where(earlier >= 0, earlier, np.arange(len(earlier)))
    return np.unique(first, return_inverse=True)[1].astype(np.int64)


def assign_splits(
    clips: Candidates,
    groups: NDArray[np.int64],
    names: pa.ChunkedArray,
    shares: Mapping[str, float],
    seed: int,
) -> tuple[NDArray[np.str_], int]:
    """Return each clip's split, and how many groups official lists put into several splits.

    groups: the number of each clip's source video, or of the clip itself; names: its name. The
    clip's official split counts; then the official split of its group's first listed clip; then
    the hash of the group's name, keyed by the seed, see `fractions`.
    """
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    listed_as = clips.official_splits.combine_chunks().dictionary_encode()
    official_names = [split_name(text) for text in listed_as.dictionary.to_pylist()]
    width = max(map(len, [*official_names, *shares]))
    official = np.array(official_names, f"<U{width}")[listed_as.indices.to_numpy()]
    of_group = np.zeros(n_groups, official.dtype)
    listed = np.flatnonzero(official != "")
    # Written back to front, so that the first listed clip of a group has the last word.
    of_group[groups[listed[::-1]]] = official[listed[::-1]]
    torn = np.unique(groups[listed][of_group[groups[listed]] != official[listed]]).size
    group_names = _group_names(names, groups, n_groups)
    free = np.flatnonzero(of_group == "").tolist()
    found = fractions([group_names[group] for group in free], seed)
    for group, fraction in zip(free, found, strict=True):
        of_group[group] = split_at(shares, fraction)
    splits = of_group[groups]
    splits[listed] = official[listed]
    return splits, int(torn)


def fractions(names: Sequence[str], seed: int) -> list[float]:
    """Return where in [0, 1) each source (or clip) stands, by the hash of its name.

    Hashes of few sources may crowd at one end (of 14, 7 stood above .8), so up to FEW_SOURCES are
    spread evenly, in the order of their hashes: shares then come out as near as whole sources can.
    More are taken as they are: a source that is added moves no other.
    """
    hashed = [keyed_fraction(seed, "split", name) for name in names]
    if len(names) > FEW_SOURCES:
        return hashed
    spread = [0.0] * len(names)
    for rank, place in enumerate(sorted(range(len(names)), key=lambda n: (hashed[n], names[n]))):
        spread[place] = (rank + 0.5) / len(names)
    return spread


def split_name(text: str) -> str:
    """Return an official split's name as shards use it: train, val, test, or its own, made safe."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")[:40]
    return SPLIT_NAMES.get(plain, plain)


def split_at(shares: Mapping[str, float], fraction: float) -> str:
    """Return the split that `fraction` in [0, 1) falls into; shares need not sum to 1."""
    mark = fraction * sum(shares.values())
    names = [name for name, share in shares.items() if share > 0]
    for name in names[:-1]:
        mark -= shares[name]
        if mark < 0:
            return name
    return names[-1]


def _group_names(names: pa.ChunkedArray, groups: NDArray[np.int64], n_groups: int) -> list[str]:
    """Return each group's alphabetically first name: it does not depend on the order of rows."""
    import pyarrow.compute as pc

    order = pc.sort_indices(names).to_numpy()[::-1]
    first = np.zeros(n_groups, np.int64)
    first[groups[order]] = order
    found: list[str] = names.take(first).to_pylist()
    return found


def torn_groups(groups: NDArray[np.int64], splits: NDArray[np.str_]) -> int:
    """Return how many groups have clips in more than one split."""
    pairs = np.unique(np.stack([groups, np.unique(splits, return_inverse=True)[1]], 1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def find_duplicates(clips: Candidates) -> NDArray[np.int64]:
    """Return for each clip the earlier one with the same content and window, or -1."""
    n = len(clips)
    earlier = np.full(n, -1, np.int64)
    if n == 0:
        return earlier
    # lexsort is stable: among equals, the first clip of the tables stays first.
    order = np.lexsort((clips.end_ms, clips.start_ms, clips.content))
    same = clips.content[order][1:] != 0
    for column in (clips.content, clips.start_ms, clips.end_ms):
        same &= column[order][1:] == column[order][:-1]
    starts = np.concatenate([[True], ~same])
    first = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    earlier[order[~starts]] = first[~starts]
    return earlier
