"""Manifests: tables of source video segments, read and written as CSV, TSV, JSONL or Parquet.

The columns are described in manifests/README.md. Reading streams; a row that cannot be used comes
out as a FAILED clip that says where and why, and never harms other rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, cast

from avdata.clip import MANIFEST_COLUMNS, Clip, Status, clip_schema
from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.columns import Columns
from avdata.manifest.keys import KeySet
from avdata.manifest.parquet import iter_parquet
from avdata.manifest.rows import KNOWN_COLUMNS, MAX_CELL_CHARS, clips_from
from avdata.manifest.text_rows import Lines, csv_rows, jsonl_rows
from avdata.store import Store, is_remote

FORMATS = ("csv", "tsv", "jsonl", "parquet")
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def iter_manifest(
    path: str, *, base: str | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[Clip]:
    """Read a manifest, or a clip table (Parquet with the clip schema), row by row.

    `path` ends in .csv, .tsv, .jsonl (each also .gz) or .parquet; local, or any fsspec URL.
    Relative paths in `url` are resolved against `base`, by default the manifest's own folder.
    `columns` maps columns of the table to the manifest's (`{"start": "start_s"}`).
    Bad rows come out as FAILED clips; their detail names the line. Rows of a clip table come back
    with all they carry. Raises ManifestError when the file as a whole cannot be used.
    """
    kind, packed = _format(path)
    store, name = _place(path)
    if base is None:
        base = store.root if store.remote else os.path.abspath(store.root)
    reader = Columns(columns)
    if kind == "parquet":
        yield from iter_parquet(store, name, base, reader)
        return
    with _opened(store, name, packed) as file:
        lines = Lines(file)
        if kind == "jsonl":
            rows = jsonl_rows(lines, reader)
        else:
            rows = csv_rows(lines, path, _DELIMITERS[kind], reader)
        yield from clips_from(rows, base, KeySet())


def join_manifests(paths: Iterable[str]) -> Iterator[Clip]:
    """Read several manifests one after the other, as `iter_manifest` reads each.

    A row whose key an earlier manifest has comes out as a FAILED clip (duplicate_key).
    """
    seen = KeySet()
    for path in paths:
        for clip in iter_manifest(path):
            if clip.status is Status.ACTIVE and not seen.add(clip.key):
                problem = f"{path}: key {clip.key!r} is taken by a row of an earlier manifest"
                clip = clip.failed("manifest", ClipError(Reason.DUPLICATE_KEY, problem))
            yield clip


def write_manifest(path: str, clips: Iterable[Clip]) -> int:
    """Write the manifest columns of ACTIVE clips, in one stream; return the number of rows.

    The format follows the name as in `iter_manifest`; the file appears when it is complete.
    Attributes become columns of their own (Parquet: one map column `attributes`). Raises
    ManifestError for what the format cannot hold, ValueError for clips that are not ACTIVE.
    """
    kind, packed = _format(path)
    store, name = _place(path)
    with store.writing(name) as temporary:
        if kind == "parquet":
            return _write_parquet(str(temporary), clips)
        with open(temporary, "wb") as raw:
            # A fixed time and no name, so that the same clips give the same bytes.
            file = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw
            with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                if kind == "jsonl":
                    return _write_jsonl(text, clips)
                return _write_csv(text, clips, _DELIMITERS[kind])


def _format(path: str) -> tuple[str, bool]:
    name = path.partition("?")[0].lower() if is_remote(path) else path.lower()
    packed = name.endswith(".gz")
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind not in FORMATS or (packed and kind == "parquet"):
        raise ManifestError(
            f"cannot tell the format of {path}: name it .csv, .tsv, .jsonl (or these with .gz) "
            "or .parquet; a dataset's own list is read by `avdata manifest import`"
        )
    return kind, packed


def _place(path: str) -> tuple[Store, str]:
    if is_remote(path):
        folder, _, name = path.rpartition("/")
        return Store(folder), name
    return Store(os.path.dirname(path) or "."), os.path.basename(path)


@contextmanager
def _opened(store: Store, name: str, packed: bool) -> Iterator[IO[bytes]]:
    where = store.full(name)
    try:
        with store.open(name) as raw:
            if not packed:
                yield raw
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(IO[bytes], unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ManifestError(f"{where} is not whole gzip data: {error}") from None
    except OSError as error:
        raise ManifestError(
            f"cannot read the manifest {where}: {error.strerror or error}"
        ) from None


def _checked(clip: Clip) -> Clip:
    if clip.status is not Status.ACTIVE:
        raise ValueError(f"clip {clip.key} is {clip.status}; a manifest holds ACTIVE clips only")
    if taken := KNOWN_COLUMNS & clip.attributes.keys():
        raise ManifestError(f"clip {clip.key}: attributes may not be named {sorted(taken)}")
    return clip


def _write_jsonl(file: IO[str], clips: Iterable[Clip]) -> int:
    rows = 0
    for clip in clips:
        values = {name: getattr(_checked(clip), name) for name in MANIFEST_COLUMNS}
        values |= dict(sorted(clip.attributes.items()))
        kept = {n: v for n, v in values.items() if v is not None and v != "" and v != ()}
        file.write(json.dumps(kept, ensure_ascii=False, separators=(",", ":")) + "\n")
        rows += 1
    return rows


def _write_csv(file: IO[str], clips: Iterable[Clip], delimiter: str) -> int:
    """Write rows to a scratch file first: the header is known only after the last attribute."""
    import tempfile

    columns = {name: at for at, name in enumerate(MANIFEST_COLUMNS)}
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as scratch:
        body = csv.writer(scratch)
        rows = 0
        for clip in clips:
            rows += 1
            _checked(clip)
            for name in clip.attributes:
                columns.setdefault(name, len(columns))
            body.writerow([_cell(clip, name) for name in columns])
        scratch.seek(0)
        table = csv.writer(file, delimiter=delimiter)
        table.writerow(columns)
        for cells in csv.reader(scratch):
            table.writerow(cells + [""] * (len(columns) - len(cells)))
    return rows


def _cell(clip: Clip, column: str) -> str:
    value = getattr(clip, column) if column in KNOWN_COLUMNS else clip.attributes.get(column)
    if isinstance(value, tuple):
        if any("|" in item for item in value if isinstance(item, str)):
            raise ManifestError(
                f"clip {clip.key}: {column} {value!r} holds '|', which joins lists in CSV; "
                "write .jsonl or .parquet"
            )
        value = "|".join(map(str, value))
    text = "" if value is None else str(value)
    if len(text) > MAX_CELL_CHARS:
        raise ManifestError(
            f"clip {clip.key}: {column} needs {len(text)} characters, more than a CSV cell may "
            f"hold ({MAX_CELL_CHARS}); write .jsonl or .parquet"
        )
    return text


def _write_parquet(path: str, clips: Iterable[Clip]) -> int:
    from itertools import islice

    import pyarrow as pa
    import pyarrow.parquet as pq

    from avdata.tables import BATCH_ROWS, to_arrow

    columns = (*MANIFEST_COLUMNS, "attributes")
    schema = pa.schema([clip_schema().field(name) for name in columns])
    rows, source = 0, iter(clips)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [_checked(clip) for clip in islice(source, BATCH_ROWS)]:
            writer.write_table(to_arrow(batch).select(columns))
            rows += len(batch)
    return rows
