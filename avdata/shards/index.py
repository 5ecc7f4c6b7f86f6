"""The columns of index.parquet: what pandas and duckdb filter by, and where each member lies.

SELECT key, shard FROM 'shards/index.parquet'
WHERE loudness_lufs > -30 AND top_tag = 'Rain' AND list_contains(labels, 'hiking')
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from avdata.clip import one_line
from avdata.errors import ShardError
from avdata.shards.checked import rows_problem
from avdata.shards.folder import DATASET_NAME, INDEX_NAME
from avdata.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def index_schema(measures: Iterable[str] = ()) -> pa.Schema:
    """Return the Arrow schema of index.parquet, with a column for each of these measures.

    Offsets are bytes from the start of the shard, so a member can be read without parsing the tar.
    `jpg_*` is the frame that matches the sound best; `frames` lists every stored frame, best
    first, or all candidates in time. Columns of members that a clip lacks are null, and so is a
    measure that was not taken of it. `tags` are YAMNet's best class names, best first, `tag_scores`
    their scores in [0, 1], `top_tag` the first. `*_crc32` is the CRC-32 of the member's bytes.
    """
    import pyarrow as pa

    text, i64, u32, f64 = pa.string(), pa.int64(), pa.uint32(), pa.float64()
    frame = pa.struct([("t_s", f64), ("offset", i64), ("bytes", i64), ("crc32", u32)])
    members = [
        (f"{member}_{name}", kind)
        for member in ("jpg", "audio", "json", "mp4")
        for name, kind in (("offset", i64), ("bytes", i64), ("crc32", u32))
    ]
    fixed = [
        ("key", text),
        ("split", text),
        ("shard", text),
        ("dataset", text),
        ("source_id", text),
        ("source_sha256", text),
        ("url", text),
        ("labels", pa.list_(text)),
        ("top_tag", text),
        ("tags", pa.list_(text)),
        ("tag_scores", pa.list_(pa.float32())),
        ("licence", text),
        ("start_ms", i64),
        ("end_ms", i64),
        ("sample_rate_hz", i64),
        ("n_samples", i64),
        ("audio_format", text),
        ("width_px", i64),
        ("height_px", i64),
        ("scorer", text),
        *members,
        ("frames", pa.list_(frame)),
    ]
    taken = {name for name, _ in fixed}
    own = [(name, f64) for name in sorted(set(measures) - taken)]
    return pa.schema([*fixed, *own])


def read_index(
    store: Store, dataset: Mapping[str, Any], columns: Sequence[str], filters: Any = None
) -> pa.Table:
    """Return rows of the index, checked: what they say lies within the shards of `dataset`.

    filters: which rows, as pyarrow.parquet.read_table takes them. Raises ShardError if it is not
    the index of `dataset`, lacks a column or makes no sense.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = store.full(INDEX_NAME)
    with _opened_index(store, dataset) as file:
        try:
            if lacking := _lacking(pq.read_schema(file), columns):
                raise ShardError(
                    f"{where} has no {', '.join(lacking)}: an older avdata packed these shards; "
                    "pack them again, or do without checksums"
                )
            rows = pq.read_table(file, columns=list(columns), filters=filters)
            rows.validate(full=True)  # texts that are not UTF-8, which Parquet lets pass
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ShardError(f"{where} cannot be read: {one_line(str(error), 160)}") from None
    sizes = {name: facts["bytes"] for name, facts in dataset["files"].items()}
    if problem := rows_problem(rows, sizes):
        raise ShardError(f"{where} makes no sense: {problem}; pack the shards again")
    return rows


@contextmanager
def _opened_index(store: Store, dataset: Mapping[str, Any]) -> Iterator[IO[bytes]]:
    """Give the index, open: what is read is what was checked, whatever becomes of the name."""
    where, facts = store.full(INDEX_NAME), dataset["index"]
    try:
        with store.local(INDEX_NAME) as path, path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != facts["bytes"] or (
                hashlib.file_digest(file, "sha256").hexdigest() != facts["sha256"]
            ):
                raise ShardError(
                    f"{where} is not the index that {DATASET_NAME} names: it was changed, or the "
                    "folder is being packed again; open it anew when that has finished"
                )
            file.seek(0)
            yield file
    except FileNotFoundError:
        raise ShardError(f"{where} is missing; pack the shards again") from None


def _lacking(there: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Return the columns that an index does not have, or has of another type."""
    import pyarrow as pa

    schema, found = index_schema(), dict(zip(there.names, there.types, strict=True))
    before = pa.list_(pa.struct(list(schema.field("frames").type.value_type)[:3]))
    return [
        name
        for name in sorted(columns)
        if found.get(name) != schema.field(name).type
        and not (name == "frames" and found.get(name) == before)  # frames had no checksums
    ]


def read_split(
    store: Store, split: str, dataset: Mapping[str, Any], columns: Sequence[str]
) -> pa.Table:
    """Return these columns of a split's rows, in the order of the index.

    dataset: what dataset.json says. Raises ShardError for an index that `read_index` refuses, and
    for a split without clips.
    """
    clips = read_index(store, dataset, columns, [("split", "=", split)])
    if not clips.num_rows:
        counts = {name: facts["clips"] for name, facts in dataset["splits"].items()}
        raise ShardError(f"{store.root} has no clips in split {split!r}; it has {counts}")
    return clips.combine_chunks()
