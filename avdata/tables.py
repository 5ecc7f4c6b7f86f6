"""Clip tables on disk: Parquet with the clip schema, streamed batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avdata.clip import PLAIN_FORM, Clip, clip_schema, one_line
from avdata.errors import StoreError
from avdata.measures import class_names
from avdata.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 8192
CLASSES_NAME = "classes.json"


def to_arrow(clips: Sequence[Clip]) -> pa.Table:
    """Return the clips as an Arrow table with the clip schema."""
    import pyarrow as pa

    schema = clip_schema()
    columns = []
    for field in schema:
        values = [getattr(clip, field.name) for clip in clips]
        if plain := PLAIN_FORM.get(field.name):
            values = list(map(plain, values))
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_clips(path: Path, clips: Sequence[Clip]) -> None:
    """Write a clip table to a local path."""
    import pyarrow.parquet as pq

    # A part's table is small and read whole: dictionaries and statistics would only cost time.
    pq.write_table(
        to_arrow(clips), path, compression="zstd", use_dictionary=False, write_statistics=False
    )


def read_clips(store: Store, path: str) -> list[Clip]:
    """Read a clip table whole: meant for the table of one part."""
    return list(iter_clips(store, path))


def iter_clips(store: Store, path: str) -> Iterator[Clip]:
    """Read a clip table batch by batch."""
    for batch in iter_batches(store, path):
        for row in batch.to_pylist():
            yield Clip.from_row(row)


def iter_batches(
    store: Store, path: str, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a Parquet file batch by batch, all columns or some; StoreError if it is damaged."""
    import pyarrow.parquet as pq

    with _damage_told(store, path), store.open(path) as file, pq.ParquetFile(file) as parquet:
        yield from parquet.iter_batches(
            batch_size=BATCH_ROWS,
            columns=list(columns) if columns else None,
            use_threads=False,  # most tables are a part's, and smaller than the threads' talk
        )


def column_names(store: Store, path: str) -> list[str]:
    """Return the names of a Parquet file's columns; StoreError if it is damaged."""
    import pyarrow.parquet as pq

    with _damage_told(store, path), store.open(path) as file:
        return list(pq.read_schema(file).names)


@contextmanager
def _damage_told(store: Store, path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"{store.full(path)} is damaged: {one_line(str(error), 120)}; delete it and rerun what "
            "wrote it"
        ) from None


def concatenate(store: Store, paths: Iterable[str], target: str) -> int:
    """Join clip tables into one, in bounded memory; return the row count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = clip_schema()
    rows = 0
    pending: list[pa.RecordBatch] = []
    with store.writing(target) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for path in paths:
                for batch in iter_batches(store, path):
                    pending.append(batch)
                    rows += batch.num_rows
                    # Many small row groups would cost more for their headers than for the rows.
                    if sum(b.num_rows for b in pending) >= BATCH_ROWS:
                        writer.write_table(pa.Table.from_batches(pending, schema))
                        pending = []
            if pending:
                writer.write_table(pa.Table.from_batches(pending, schema))
    return rows


def write_class_names(store: Store) -> None:
    """Write what the places in `class_scores` stand for: a list, beside the tables."""
    names = json.dumps(class_names(), indent=0, ensure_ascii=False)
    store.write_bytes(CLASSES_NAME, names.encode())
