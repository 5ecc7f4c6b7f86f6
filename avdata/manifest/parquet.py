"""Parquet manifests: plain tables, and the clip tables that steps wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from avdata.clip import Clip, clip_schema, one_line
from avdata.errors import ClipError, ManifestError, Reason, StoreError
from avdata.manifest.clip_rows import clips_of_table, media_homes
from avdata.manifest.columns import Columns, Reading
from avdata.manifest.keys import KeySet
from avdata.manifest.rows import Row, clips_from
from avdata.store import Store
from avdata.tables import column_names, iter_batches

if TYPE_CHECKING:
    import pyarrow as pa


def iter_parquet(store: Store, name: str, base: str, columns: Columns) -> Iterator[Clip]:
    """Yield the clips of a Parquet file: manifest rows, or the rows of a clip table.

    Raises ManifestError when the file as a whole cannot be used.
    """
    import pyarrow as pa

    where = store.full(name)
    try:
        names = column_names(store, name)
        if set(clip_schema().names) <= set(names):
            yield from clips_of_table(_clip_rows(store, name), media_homes(store))
        else:
            rows = _plain_rows(store, name, columns.reading(names, where))
            yield from clips_from(rows, base, KeySet(), place="row")
    except StoreError as error:
        raise ManifestError(str(error)) from None
    except pa.ArrowException as error:
        raise ManifestError(f"{where} cannot be read: {one_line(str(error))}") from None
    except OSError as error:
        why = error.strerror or one_line(str(error))
        raise ManifestError(f"cannot read the manifest {where}: {why}") from None


def _plain_rows(store: Store, name: str, reading: Reading) -> Iterator[Row]:
    number = 0
    for batch in iter_batches(store, name):
        for cells in zip(*map(_values, batch.columns), strict=True):
            number += 1
            bad = [cell for cell in cells if type(cell) is ClipError]
            yield from ((number, bad[0]),) if bad else reading.rows(number, cells)


def _clip_rows(store: Store, name: str) -> Iterator[Row]:
    import pyarrow as pa

    schema, number = clip_schema(), 0
    for batch in iter_batches(store, name, schema.names):
        table = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        for cells in zip(*map(_values, table.columns), strict=True):
            number += 1
            bad = [cell for cell in cells if type(cell) is ClipError]
            yield number, bad[0] if bad else dict(zip(schema.names, cells, strict=True))


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
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
