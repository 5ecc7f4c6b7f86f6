"""Decide which clip goes into which shard, in memory that hardly grows with the clips.

Two passes over the clip tables: the first reads a few narrow columns and decides (split by source
video, duplicates, order by keyed hash, cut into shards), the second carries the rows (shard_rows).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from avdata.config import ShardSettings
from avdata.errors import ShardError
from avdata.seeding import keyed_hash
from avdata.shards.folder import DATASET_NAME, FOLDER
from avdata.shards.sealed import parse_json
from avdata.steps.shard_rows import (
    PLAN_FOLDER,
    Layout,
    ShardPlan,
    accepted_batches,
    write_duplicates,
    write_plans,
)
from avdata.steps.shard_splits import (
    Candidates,
    assign_splits,
    find_duplicates,
    group_by_clip,
    group_by_source,
    torn_groups,
)
from avdata.store import Store

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

PLAN_PATH = f"{PLAN_FOLDER}/plan.json"
TAR_BLOCK = 512
JSON_ESTIMATE_BYTES = 4 * TAR_BLOCK
COLUMNS = (
    *("key", "url", "source_id", "split", "start_ms", "end_ms", "status", "source.sha256"),
    *("media.audio.bytes", "media.video.bytes", "media.frames.list.element.bytes"),
    "selection.picks",
)


def plan_shards(
    store: Store, tables: Iterable[str], settings: ShardSettings, seed: int, *, deep: bool = False
) -> list[ShardPlan]:
    """Return the shards to write for the accepted clips of the given clip tables.

    Same clips, settings and seed give the same shards, however the clips are spread over tables.
    Clips left out as duplicates go to a small clip table (DUPLICATES_PATH) with their reason.
    deep: shards whose content is not what it was when they were written are to be written again.
    Raises ShardError if two accepted clips have one key.
    """
    tables = list(tables)
    clips = _read_candidates(store, tables, settings)
    _check_keys(clips.keys)
    groups = group_by_source(clips)
    earlier = find_duplicates(clips)
    by_clip = settings.split_by == "clip"
    splits, torn = assign_splits(
        clips,
        group_by_clip(earlier) if by_clip else groups,
        clips.keys if by_clip else clips.sources,
        settings.splits,
        seed,
    )
    if not settings.drop_duplicates:
        earlier[:] = -1
    layout = _cut(clips, splits, earlier, settings, seed)
    plans = write_plans(store, tables, layout, settings)
    if deep:
        plans = [replace(plan, deep=True) for plan in plans]
    write_duplicates(store, tables, earlier, clips.keys)
    sources = dict.fromkeys(settings.splits, 0) | {
        str(name): int(np.unique(groups[(splits == name) & (earlier < 0)]).size)
        for name in np.unique(splits)
    }
    tree: dict[str, Any] = {
        "digest": hashlib.sha256("".join(plan.digest for plan in plans).encode()).hexdigest(),
        "duplicates": int((earlier >= 0).sum()),
        "notes": [
            *_notes(sources, torn),
            *(_leak(groups[earlier < 0], splits[earlier < 0]) if by_clip else ()),
        ],
        "seed": seed,
        "sources": sources,
    }
    _forget_other_dataset(store, tree["digest"])
    store.write_bytes(PLAN_PATH, json.dumps(tree, sort_keys=True).encode())
    return plans


def _notes(sources: dict[str, int], torn: int) -> list[str]:
    total = sum(sources.values())
    notes = [
        f"split {name} is empty: none of the {total} source videos fell to it"
        for name, count in sources.items()
        if count == 0
    ]
    if total == 0:
        notes = ["no clip was accepted, so there is no shard"]
    if torn:
        notes.append(f"official lists put {torn} source videos into more than one split")
    for note in notes:
        log.warning("%s", note)
    return notes


def _leak(groups: NDArray[np.int64], splits: NDArray[np.str_]) -> list[str]:
    """Return what a split by clip does to the figures, as a note, if it does."""
    torn = torn_groups(groups, splits)
    if not torn:
        return []
    note = (
        f"split by clip, which is a leak: {torn} of {np.unique(groups).size} source videos have "
        "clips in more than one split, so figures on held-out clips say little of other videos; "
        "steps.shard.split_by: source keeps them apart"
    )
    log.warning("%s", note)
    return [note]


def _read_candidates(store: Store, tables: Sequence[str], settings: ShardSettings) -> Candidates:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts: dict[str, list[Any]] = {name: [] for name in ("key", "source", "split")}
    numbers: dict[str, list[NDArray[Any]]] = {
        "content": [np.zeros(0, np.uint64)],
        "start_ms": [np.zeros(0, np.int64)],
        "end_ms": [np.zeros(0, np.int64)],
        "bytes": [np.zeros(0, np.int64)],
    }
    for batch in accepted_batches(store, tables, COLUMNS):
        source_id = batch.column("source_id")
        named = pc.not_equal(pc.fill_null(source_id, ""), "")
        texts["key"].append(batch.column("key"))
        texts["source"].append(pc.if_else(named, source_id, batch.column("url")))
        texts["split"].append(pc.fill_null(batch.column("split"), ""))
        numbers["content"].append(_content_hashes(batch.column("source")))
        for name in ("start_ms", "end_ms"):
            numbers[name].append(pc.fill_null(batch.column(name), -1).to_numpy())
        numbers["bytes"].append(_tar_bytes(batch, settings))
    key, source, split = (pa.chunked_array(chunks, pa.string()) for chunks in texts.values())
    content, start_ms, end_ms, size = (np.concatenate(chunks) for chunks in numbers.values())
    return Candidates(key, source, split, content, start_ms, end_ms, size)


def _content_hashes(source: pa.StructArray) -> NDArray[np.uint64]:
    """Return the first 64 bits of each source's sha256, 0 where there is none."""
    import pyarrow.compute as pc

    texts = pc.struct_field(source, "sha256").to_pylist()
    return np.array([int(text[:16], 16) if text else 0 for text in texts], np.uint64)


def _tar_bytes(batch: pa.RecordBatch, settings: ShardSettings) -> NDArray[np.int64]:
    """Return how many bytes each clip takes in its tar, with an estimate for its JSON."""
    import pyarrow.compute as pc

    media = batch.column("media")
    total = np.full(batch.num_rows, TAR_BLOCK + JSON_ESTIMATE_BYTES, np.int64)
    for name in ("audio", "video") if settings.video else ("audio",):
        sizes = pc.fill_null(pc.struct_field(media, [name, "bytes"]), 0).to_numpy()
        total += np.where(sizes > 0, _in_tar(sizes), 0)
    frames = pc.struct_field(media, "frames")
    counts = pc.fill_null(pc.list_value_length(frames), 0).to_numpy()
    sizes = _in_tar(pc.struct_field(pc.list_flatten(frames), "bytes").to_numpy())
    owner = np.repeat(np.arange(len(counts)), counts)
    if settings.frames == "picked":
        picks = pc.struct_field(batch.column("selection"), "picks")
        owner = np.repeat(
            np.arange(len(counts)), pc.fill_null(pc.list_value_length(picks), 0).to_numpy()
        )
        first_frame = np.cumsum(counts) - counts
        sizes = sizes[first_frame[owner] + pc.list_flatten(picks).to_numpy()]
    np.add.at(total, owner, sizes)
    return total


def _in_tar(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes of a header and of the content padded to whole blocks."""
    return TAR_BLOCK + (sizes + TAR_BLOCK - 1) // TAR_BLOCK * TAR_BLOCK


def _check_keys(keys: pa.ChunkedArray) -> None:
    import pyarrow.compute as pc

    if pc.count_distinct(keys).as_py() == len(keys):
        return
    counts = pc.value_counts(keys)
    twice = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))[0]
    raise ShardError(
        f"two accepted clips have the key {twice['values'].as_py()!r}; keys name the files in a "
        "shard, so give each clip its own in the manifest"
    )


def _cut(
    clips: Candidates,
    splits: NDArray[np.str_],
    earlier: NDArray[np.int64],
    settings: ShardSettings,
    seed: int,
) -> Layout:
    """Order the clips by keyed hash within their split and cut them into shards."""
    hashes = np.fromiter(
        (
            keyed_hash(seed, "shard", key)
            for chunk in clips.keys.chunks
            for key in chunk.to_pylist()
        ),
        np.uint64,
        count=len(clips),
    )
    order = np.lexsort((hashes, splits))
    order = order[earlier[order] < 0]
    shard, position = np.full(len(clips), -1), np.full(len(clips), -1)
    position[order] = np.arange(order.size)
    split_names, codes = np.unique(splits, return_inverse=True)
    names: list[tuple[str, str]] = []
    split, number, count, size = -1, 0, 0, 0
    # Over the arrays themselves: lists of a million objects would be most of the memory.
    for row, code, row_bytes in zip(order, codes[order], clips.tar_bytes[order], strict=True):
        full = count >= settings.max_clips or size + row_bytes > settings.max_bytes
        if code != split or (full and count):
            number = number + 1 if code == split else 0
            split, count, size = int(code), 0, 0
            names.append((f"{split_names[code]}-{number:06d}", str(split_names[code])))
        shard[row] = len(names) - 1
        count, size = count + 1, size + int(row_bytes)
    return Layout(names, shard, position)


def _forget_other_dataset(store: Store, digest: str) -> None:
    """Remove a dataset.json of other shards before they are touched: it means "complete"."""
    try:
        old = parse_json(store.read_bytes(PLAN_PATH))
    except (FileNotFoundError, ValueError):  # a damaged plan is none
        old = None
    if not isinstance(old, dict) or old.get("digest") != digest:
        store.delete(f"{FOLDER}/{DATASET_NAME}")
