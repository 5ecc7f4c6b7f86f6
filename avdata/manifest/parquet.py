"""Parquet manifests: plain tables, and the clip tables that steps wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from avdata.clip import Clip, clip_schema, one_line
from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.columns import Columns
from avdata.manifest.keys import KeySet
from avdata.manifest.rows import Row, clips_from
from avdata.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def iter_parquet(store: Store, name: str, base: str, columns: Columns) -> Iterator[Clip]:
    """Yield the clips of a Parquet file: manifest rows, or the rows of a clip table.

    Raises ManifestError when the file as a whole cannot be used.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from avdata.tables import iter_clips

    where = store.full(name)
    try:
        with store.open(name) as file, pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
        if set(clip_schema().names) <= set(names):
            yield from iter_clips(store, name)
        else:
            rows = _rows(store, name, columns)
            yield from clips_from(rows, base, KeySet(), place="row")
    except pa.ArrowException as error:
        raise ManifestError(
            f"{where} is not a whole Parquet file: {one_line(str(error))}"
        ) from None
    except OSError as error:
        raise ManifestError(
            f"cannot read the manifest {where}: {error.strerror or error}"
        ) from None


def _rows(store: Store, name: str, columns: Columns) -> Iterator[Row]:
    from avdata.tables import column_names, iter_batches

    reading = columns.reading(column_names(store, name), store.full(name))
    number = 0
    for batch in iter_batches(store, name):
        for cells in zip(*map(_values, batch.columns), strict=True):
            number += 1
            bad = [cell for cell in cells if type(cell) is ClipError]
            yield from ((number, bad[0]),) if bad else reading.rows(number, cells)


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column; what Python cannot hold, such as the year 30000, as errors."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, TypeError):
        return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, TypeError) as error:
        return ClipError(Reason.BAD_ROW, f"a value of type {cell.type} cannot be read: {error}")
