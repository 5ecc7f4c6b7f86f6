"""shard: accepted clips to WebDataset tars, an index and checksums.

plan = plan_shards(...)                 decide, once
stats = [write_shard(...) for ...]      write, on any number of workers
finish_shards(...)                      index, checksums, tidy up; dataset.json comes last
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avdata.clip import Clip
from avdata.config import ShardSettings
from avdata.shards.folder import (
    DATASET_NAME,
    FOLDER,
    FORMAT,
    FORMAT_VERSION,
    INDEX_NAME,
    index_schema,
    read_ranges,
    seal,
)
from avdata.shards.tar_writer import tar_writer
from avdata.steps.shard_plan import PLAN_PATH, plan_shards
from avdata.steps.shard_rows import DUPLICATES_PATH, PLAN_FOLDER, ShardPlan
from avdata.steps.shard_sample import Sample, make_sample
from avdata.store import Store, sha256_file
from avdata.strict import digest, to_tree
from avdata.tables import iter_batches

__all__ = ["DUPLICATES_PATH", "ShardPlan", "ShardStats", "finish_shards", "plan_shards"]
__all__ += ["write_shard"]

DONE_FOLDER = f"{FOLDER}/.done"
READ_AHEAD_BYTES = 8 * 2**20
SHARD_FILE = re.compile(r"([a-z0-9_]+-\d{6})\.(tar|json|parquet)")
TAR_BLOCK = 512
UNIFORM_COLUMNS = ("sample_rate_hz", "audio_format", "width_px", "height_px")


@dataclass(frozen=True, slots=True)
class ShardStats:
    """A written shard."""

    name: str
    split: str
    digest: str  # of its plan
    clips: int
    bytes: int
    sha256: str


def write_shard(store: Store, plan: ShardPlan, settings: ShardSettings) -> ShardStats:
    """Write one shard, unless it is there already, and return its size and checksum.

    Bytes depend on nothing but the clips: owner, mode and time of members are fixed.
    Raises StoreError if a part's media are gone.
    """
    done = _read_done(store, plan)
    if done:
        return done
    rows = []
    with store.writing(f"{FOLDER}/{plan.name}.tar") as temporary:
        with temporary.open("wb") as file:
            # An empty owner keeps the name of whoever runs this out of the bytes.
            writer = tar_writer()(file, user="", group="", mtime=0, encoder=False)
            for sample, contents in _with_contents(store, _samples(store, plan, settings)):
                places = _write_members(writer, sample.clip.key, contents)
                rows.append(_index_row(sample, plan, places))
            writer.close()
        stats = ShardStats(
            name=plan.name,
            split=plan.split,
            digest=plan.digest,
            clips=len(rows),
            bytes=temporary.stat().st_size,
            sha256=sha256_file(temporary),
        )
    with store.writing(f"{DONE_FOLDER}/{plan.name}.parquet") as temporary:
        _write_index(temporary, rows)
    store.write_bytes(f"{DONE_FOLDER}/{plan.name}.json", json.dumps(asdict(stats)).encode())
    return stats


def _read_done(store: Store, plan: ShardPlan) -> ShardStats | None:
    """Return what is recorded of a shard if that and the shard are there, whole and as planned."""
    import pyarrow.parquet as pq

    try:
        stats = ShardStats(**json.loads(store.read_bytes(f"{DONE_FOLDER}/{plan.name}.json")))
        size = store.size(f"{FOLDER}/{plan.name}.tar")
        with store.local(f"{DONE_FOLDER}/{plan.name}.parquet") as rows:
            pq.read_schema(rows)  # the footer comes last: a table that was cut off has none
    except (FileNotFoundError, ValueError, TypeError):  # a damaged record is none
        return None
    return stats if stats.digest == plan.digest and stats.bytes == size else None


def _samples(store: Store, plan: ShardPlan, settings: ShardSettings) -> Iterator[Sample]:
    for batch in iter_batches(store, plan.path):
        for row in batch.to_pylist():
            if row["selection"]:
                row["selection"]["maps"] = ()  # plans go without: they are large and not packed
            yield make_sample(Clip.from_row(row), row["classes"], settings)


def _with_contents(
    store: Store, samples: Iterator[Sample]
) -> Iterator[tuple[Sample, dict[str, bytes]]]:
    """Read the samples' members, many at once, so that each part's tar is opened seldom."""
    waiting: list[Sample] = []
    size = 0
    for sample in samples:
        if waiting and size + sample.bytes > READ_AHEAD_BYTES:
            yield from _read_all(store, waiting)
            waiting, size = [], 0
        waiting.append(sample)
        size += sample.bytes
    yield from _read_all(store, waiting)


def _read_all(store: Store, samples: Sequence[Sample]) -> Iterator[tuple[Sample, dict[str, bytes]]]:
    ranges = [member for sample in samples for member in sample.members.values()]
    contents = iter(read_ranges(store, ranges))
    for sample in samples:
        members = {suffix: next(contents) for suffix in sample.members}
        yield sample, {**members, "json": sample.json}


def _write_members(
    writer: Any, key: str, contents: Mapping[str, bytes]
) -> dict[str, tuple[int, int]]:
    """Write one sample and return each member's offset and size by its suffix."""
    places = {}
    for suffix in sorted(contents):
        size = len(contents[suffix])
        writer.write({"__key__": key, suffix: contents[suffix]})
        padded = -(-size // TAR_BLOCK) * TAR_BLOCK
        places[suffix] = (writer.tarstream.offset - padded, size)
    return places


def _index_row(
    sample: Sample, plan: ShardPlan, places: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    clip, media = sample.clip, sample.clip.media
    assert media is not None
    row: dict[str, Any] = {
        "key": clip.key,
        "split": plan.split,
        "shard": f"{plan.name}.tar",
        "dataset": clip.dataset,
        "source_id": clip.source_id,
        "labels": list(clip.labels),
        "licence": clip.licence,
        "start_ms": clip.start_ms,
        "end_ms": clip.end_ms,
        "sample_rate_hz": media.sample_rate_hz,
        "n_samples": media.n_samples,
        "audio_format": media.audio_format,
        "width_px": media.width_px,
        "height_px": media.height_px,
        "frames": [
            {"t_s": t_s, "offset": places[suffix][0], "bytes": places[suffix][1]}
            for suffix, t_s in sample.frames.items()
        ],
    }
    columns = {
        "jpg": sample.best_frame,
        "audio": media.audio_format,
        "json": "json",
        "mp4": "mp4",
    }
    for column, suffix in columns.items():
        row[f"{column}_offset"], row[f"{column}_bytes"] = places.get(suffix or "", (None, None))
    return row


def _write_index(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows, index_schema()), path, compression="zstd")


def finish_shards(
    store: Store,
    plans: Sequence[ShardPlan],
    stats: Sequence[ShardStats],
    settings: ShardSettings,
) -> dict[str, Any]:
    """Write the index and dataset.json, remove what earlier settings left; return the counts."""
    by_name = {stat.name: stat for stat in stats}
    done = [by_name[plan.name] for plan in plans]
    planned = json.loads(store.read_bytes(PLAN_PATH))
    _remove_stale(store, {stat.name for stat in done})
    uniform, index = _join_indices(store, done)
    splits = {
        name: {
            "clips": sum(stat.clips for stat in done if stat.split == name),
            "sources": sources,
            "shards": sum(stat.split == name for stat in done),
            "bytes": sum(stat.bytes for stat in done if stat.split == name),
        }
        for name, sources in planned["sources"].items()
    }
    counts = {
        "clips": sum(stat.clips for stat in done),
        "shards": len(done),
        "bytes": sum(stat.bytes for stat in done),
        "duplicates": planned["duplicates"],
        "splits": splits,
        "notes": planned["notes"],
    }
    tree = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "digest": digest(*(stat.sha256 for stat in done)),
        "seed": planned["seed"],
        "settings": to_tree(settings),
        **{name: next(iter(v)) if len(v) == 1 else None for name, v in uniform.items()},
        **counts,
        "index": index,
        "files": {
            f"{stat.name}.tar": {"clips": stat.clips, "bytes": stat.bytes, "sha256": stat.sha256}
            for stat in done
        },
    }
    store.write_bytes(f"{FOLDER}/{DATASET_NAME}", seal(tree))
    return counts


def _remove_stale(store: Store, names: set[str]) -> None:
    """Remove what belongs to shards that are no longer planned, and the plans themselves."""
    for folder, keep in ((FOLDER, names), (DONE_FOLDER, names), (PLAN_FOLDER, set[str]())):
        for file in store.list(folder):
            shard = SHARD_FILE.fullmatch(file)
            if shard and shard[1] not in keep:
                store.delete(f"{folder}/{file}")


def _join_indices(
    store: Store, stats: Sequence[ShardStats]
) -> tuple[dict[str, set[Any]], dict[str, Any]]:
    """Write the index; return the values of the columns that ought to be uniform, and its sums."""
    import pyarrow.parquet as pq

    uniform: dict[str, set[Any]] = {name: set() for name in UNIFORM_COLUMNS}
    with store.writing(f"{FOLDER}/{INDEX_NAME}") as temporary:
        with pq.ParquetWriter(temporary, index_schema(), compression="zstd") as writer:
            for stat in stats:
                for batch in iter_batches(store, f"{DONE_FOLDER}/{stat.name}.parquet"):
                    writer.write_batch(batch)
                    for name, seen in uniform.items():
                        seen.update(batch.column(name).unique().to_pylist())
        index = {"bytes": temporary.stat().st_size, "sha256": sha256_file(temporary)}
    return uniform, {"name": INDEX_NAME, **index}
