"""Carry the accepted rows from the clip tables into one plan file per shard.

A row may go anywhere, so rows first go into a few bucket files, each a stretch of shards that fits
in memory; each bucket is then sorted and cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avdata.clip import Clip, Status
from avdata.config import ShardSettings
from avdata.errors import Reason
from avdata.shards.folder import FOLDER, FORMAT_VERSION
from avdata.store import Store
from avdata.tables import iter_batches, write_clips

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

PLAN_FOLDER = f"{FOLDER}/.plan"
DUPLICATES_PATH = f"{FOLDER}/.plan/duplicates.parquet"
ROWS_PER_BUCKET = 20_000
TOP_CLASSES = 10
COLUMNS = (
    *("key", "url", "source_id", "dataset", "start_ms", "end_ms", "labels", "licence"),
    *("attribution", "attributes", "status", "source", "media", "measures", "class_scores"),
    *("selection.scorer", "selection.frame_scores", "selection.picks"),
)


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard to be written: small, so that it travels well; its rows wait in a plan file."""

    name: str  # split and number, such as train-000000
    split: str
    path: str  # table with the shard's rows in their order, relative to the run's folder
    clips: int
    digest: str  # of all that the shard's bytes depend on
    deep: bool = False  # whether a shard that is there is compared with its checksum


@dataclass(frozen=True)
class Layout:
    """Where each accepted clip goes, in the order of the tables."""

    names: Sequence[tuple[str, str]]  # of each shard: its name and its split
    shard: NDArray[np.int64]  # number of the clip's shard; -1: left out
    position: NDArray[np.int64]  # place in the order of all clips


def accepted_batches(
    store: Store, tables: Iterable[str], columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Read the accepted rows of clip tables; `columns` must hold status."""
    import pyarrow.compute as pc

    for table in tables:
        for batch in iter_batches(store, table, columns):
            accepted = batch.filter(pc.equal(batch.column("status"), str(Status.ACCEPTED)))
            if accepted.num_rows:
                yield accepted


def write_plans(
    store: Store, tables: Sequence[str], layout: Layout, settings: ShardSettings
) -> list[ShardPlan]:
    """Write every shard's plan file and return the plans in the order of their names."""
    plans = []
    with store.scratch() as scratch:
        for bucket in _fill_buckets(store, tables, layout, Path(scratch)):
            for name, split, rows in _empty_bucket(bucket, layout):
                plans.append(_write_plan(store, name, split, rows, settings))
    return plans


def _fill_buckets(store: Store, tables: Sequence[str], layout: Layout, scratch: Path) -> list[Path]:
    import pyarrow as pa

    n_buckets = max(1, -(-int((layout.shard >= 0).sum()) // ROWS_PER_BUCKET))
    shards_per_bucket = max(1, -(-len(layout.names) // n_buckets))
    writers: dict[int, Any] = {}
    row = 0
    try:
        for batch in accepted_batches(store, tables, COLUMNS):
            shard = layout.shard[row : row + batch.num_rows]
            position = layout.position[row : row + batch.num_rows]
            row += batch.num_rows
            table = _plan_rows(batch, shard, position)
            bucket_of = np.where(shard < 0, -1, shard // shards_per_bucket)
            for bucket in np.unique(bucket_of[bucket_of >= 0]).tolist():
                if bucket not in writers:
                    path = str(scratch / f"{bucket:06d}.arrow")
                    writers[bucket] = pa.ipc.new_stream(path, table.schema)
                writers[bucket].write_table(table.take(np.flatnonzero(bucket_of == bucket)))
    finally:
        for writer in writers.values():
            writer.close()
    return [scratch / f"{bucket:06d}.arrow" for bucket in sorted(writers)]


def _empty_bucket(path: Path, layout: Layout) -> Iterator[tuple[str, str, pa.Table]]:
    """Give each shard's name, split and rows."""
    import pyarrow as pa

    with pa.ipc.open_stream(str(path)) as reader:
        table = reader.read_all().sort_by("position")
    path.unlink()
    shard = table.column("shard_number").to_numpy()
    table = table.drop_columns(["shard_number", "position"])
    starts = np.flatnonzero(np.diff(shard, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(shard)], strict=True):
        name, split = layout.names[int(shard[start])]
        yield name, split, table.slice(start, stop - start)


def _write_plan(
    store: Store, name: str, split: str, rows: pa.Table, settings: ShardSettings
) -> ShardPlan:
    import pyarrow.parquet as pq

    path = f"{PLAN_FOLDER}/{name}.parquet"
    with store.writing(path) as temporary:
        pq.write_table(rows, temporary, compression="zstd")
        content = hashlib.sha256(temporary.read_bytes())
    content.update(f"{FORMAT_VERSION} {name} {settings.frames} {settings.video}".encode())
    return ShardPlan(name, split, path, rows.num_rows, content.hexdigest())


def _plan_rows(
    batch: pa.RecordBatch, shard: NDArray[np.int64], position: NDArray[np.int64]
) -> pa.Table:
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    classes = _top_classes(table.column("class_scores").combine_chunks())
    table = table.drop_columns(["class_scores", "status"])
    for name, values in (("classes", classes), ("shard_number", shard), ("position", position)):
        table = table.append_column(name, pa.array(values))
    return table


def _top_classes(scores: pa.ListArray) -> pa.ListArray:
    """Return each clip's best classes as (index, score), best first; empty where not tagged."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = pc.fill_null(pc.list_value_length(scores), 0).to_numpy()
    n_classes = int(counts.max(initial=0))
    tagged = counts == n_classes if n_classes else np.zeros(len(counts), bool)
    values = pc.list_flatten(scores.filter(pa.array(tagged))).to_numpy()
    matrix = values.reshape(-1, max(n_classes, 1)).astype(np.float32, copy=False)
    best = _best(matrix)
    offsets = np.concatenate([[0], np.cumsum(tagged * best.shape[1])]).astype(np.int32)
    pairs = pa.StructArray.from_arrays(
        [
            pa.array(best.ravel(), pa.int32()),
            pa.array(np.take_along_axis(matrix, best, 1).ravel(), pa.float32()),
        ],
        ["index", "score"],
    )
    return pa.ListArray.from_arrays(pa.array(offsets), pairs)


def _best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the indices of each row's best scores, best first, the lower index first if equal.

    Scores are not negative, so their bits sort as they do; with the index in the low bits no two
    are equal, and a partition, many times cheaper than a sort, has only one outcome.
    """
    place_bits = 10
    last = (1 << place_bits) - 1
    bits = scores.view(np.int32).astype(np.int64) << place_bits
    keys = bits | (last - np.arange(scores.shape[1]))
    count = min(TOP_CLASSES, scores.shape[1])
    keys.partition(scores.shape[1] - count, axis=1)
    top = np.sort(keys[:, -count:], axis=1)[:, ::-1]
    return last - (top & last)


def write_duplicates(
    store: Store, tables: Sequence[str], earlier: NDArray[np.int64], keys: pa.ChunkedArray
) -> None:
    """Write the left-out clips as rejected rows, so that a run's counts reconcile."""
    clips: list[Clip] = []
    row = 0
    columns = ("key", "url", "source_id", "dataset", "start_ms", "end_ms", "status")
    for batch in accepted_batches(store, tables, columns) if (earlier >= 0).any() else ():
        places = np.flatnonzero(earlier[row : row + batch.num_rows] >= 0)
        for place, values in zip(places.tolist(), batch.take(places).to_pylist(), strict=True):
            kept = keys[int(earlier[row + place])].as_py()
            detail = f"same content and window as {kept}"
            clips.append(Clip.from_row(values).rejected("shard", Reason.DUPLICATE_VIDEO, detail))
        row += batch.num_rows
    with store.writing(DUPLICATES_PATH) as temporary:
        write_clips(temporary, clips)
