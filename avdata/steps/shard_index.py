"""A clip's row in the index of the shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from avdata.shards.index import index_schema
from avdata.steps.shard_rows import ShardPlan
from avdata.steps.shard_sample import Sample

if TYPE_CHECKING:
    import pyarrow as pa


class Place(NamedTuple):
    """Where a member lies in its shard, and the CRC-32 of its bytes."""

    offset: int
    bytes: int
    crc32: int


def index_row(sample: Sample, plan: ShardPlan, places: Mapping[str, Place]) -> dict[str, Any]:
    """Return a sample's row: what it is, what was measured, where its members lie.

    The column `shard` waits until the content is known, which the file's name tells.
    """
    clip, media = sample.clip, sample.clip.media
    assert media is not None
    row: dict[str, Any] = {
        "key": clip.key,
        "split": plan.split,
        "dataset": clip.dataset,
        "source_id": clip.source_id,
        "source_sha256": clip.source.sha256 if clip.source else None,
        "url": clip.url,
        "labels": list(clip.labels),
        "top_tag": sample.tags[0][0] if sample.tags else None,
        "tags": [name for name, _ in sample.tags],
        "tag_scores": [score for _, score in sample.tags],
        "licence": clip.licence,
        "start_ms": clip.start_ms,
        "end_ms": clip.end_ms,
        "sample_rate_hz": media.sample_rate_hz,
        "n_samples": media.n_samples,
        "audio_format": media.audio_format,
        "width_px": media.width_px,
        "height_px": media.height_px,
        "scorer": clip.selection.scorer if clip.selection else None,
        "frames": [
            {"t_s": t_s, **places[suffix]._asdict()} for suffix, t_s in sample.frames.items()
        ],
    }
    columns = {
        "jpg": sample.best_frame,
        "audio": media.audio_format,
        "json": "json",
        "mp4": "mp4",
    }
    for column, suffix in columns.items():
        place = places.get(suffix or "")
        row |= {f"{column}_{name}": getattr(place, name, None) for name in Place._fields}
    return {**clip.measures, **row}


def write_index(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a table with the columns of whatever was measured of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = index_schema(name for row in rows for name in row)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, compression="zstd")


def in_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns of the schema; what it lacks is null."""
    import pyarrow as pa

    there = set(batch.schema.names)
    columns = [
        batch.column(field.name) if field.name in there else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
