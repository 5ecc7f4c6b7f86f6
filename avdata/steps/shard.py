"""shard: accepted clips to WebDataset tars, an index and checksums.

plan = plan_shards(...)                 decide, once
stats = [write_shard(...) for ...]      write, on any number of workers
finish_shards(...)                      index, checksums, tidy up; dataset.json comes last
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avdata.clip import Clip
from avdata.config import ShardSettings
from avdata.shards.checked import shard_file
from avdata.shards.folder import (
    DATASET_NAME,
    FOLDER,
    FORMAT,
    FORMAT_VERSION,
    INDEX_NAME,
)
from avdata.shards.index import index_schema
from avdata.shards.ranges import read_stretches
from avdata.shards.sealed import seal
from avdata.shards.tar_writer import tar_writer
from avdata.steps.shard_done import (
    ShardStats,
    read_done,
    remove_superseded,
    rows_path,
    write_record,
)
from avdata.steps.shard_index import Place, in_schema, index_row, write_index
from avdata.steps.shard_plan import PLAN_PATH, plan_shards
from avdata.steps.shard_rows import DUPLICATES_PATH, ShardPlan
from avdata.steps.shard_sample import Sample, make_sample
from avdata.store import Store, explained, sha256_file
from avdata.strict import digest, to_tree
from avdata.tables import column_names, iter_batches

__all__ = ["DUPLICATES_PATH", "ShardPlan", "ShardStats", "finish_shards", "plan_shards"]
__all__ += ["write_shard"]

READ_AHEAD_BYTES = 8 * 2**20
TAR_BLOCK = 512
UNIFORM_COLUMNS = ("sample_rate_hz", "audio_format", "width_px", "height_px")


def write_shard(store: Store, plan: ShardPlan, settings: ShardSettings) -> ShardStats:
    """Write one shard, unless it is there already, and return its size and checksum.

    Bytes depend on nothing but the clips: owner, mode and time of members are fixed.
    Raises StoreError if a part's media are gone.
    """
    done = read_done(store, plan)
    if done:
        return done
    with explained(store.root), store.scratch() as scratch:
        tar, table = Path(scratch) / "shard.tar", Path(scratch) / "rows.parquet"
        rows = _write_tar(tar, store, plan, settings)
        sha256 = sha256_file(tar)
        write_index(table, [{**row, "shard": shard_file(plan.name, sha256)} for row in rows])
        stats = ShardStats(
            name=plan.name,
            split=plan.split,
            digest=plan.digest,
            clips=len(rows),
            bytes=tar.stat().st_size,
            sha256=sha256,
            rows_sha256=sha256_file(table),
        )
        for made, path in ((tar, f"{FOLDER}/{stats.file}"), (table, rows_path(plan.name))):
            with store.writing(path) as temporary:
                shutil.move(made, temporary)
    write_record(store, stats)
    return stats


def _write_tar(
    path: Path, store: Store, plan: ShardPlan, settings: ShardSettings
) -> list[dict[str, Any]]:
    """Write the shard's tar and return its rows of the index, but for the name of the tar."""
    rows = []
    with path.open("wb") as file:
        # An empty owner keeps the name of whoever runs this out of the bytes.
        writer = tar_writer()(file, user="", group="", mtime=0, encoder=False)
        for sample, contents in _with_contents(store, _samples(store, plan, settings)):
            places = _write_members(writer, sample.clip.key, contents)
            rows.append(index_row(sample, plan, places))
        writer.close()
    return rows


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
    contents = iter(read_stretches(store, ranges))
    for sample in samples:
        members = {suffix: next(contents) for suffix in sample.members}
        yield sample, {**members, "json": sample.json}


def _write_members(writer: Any, key: str, contents: Mapping[str, bytes]) -> dict[str, Place]:
    """Write one sample and return each member's place by its suffix."""
    places = {}
    for suffix in sorted(contents):
        data = contents[suffix]
        writer.write({"__key__": key, suffix: data})
        padded = -(-len(data) // TAR_BLOCK) * TAR_BLOCK
        places[suffix] = Place(writer.tarstream.offset - padded, len(data), zlib.crc32(data))
    return places


def finish_shards(
    store: Store,
    plans: Sequence[ShardPlan],
    stats: Sequence[ShardStats],
    settings: ShardSettings,
    crashed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the index and dataset.json, remove what earlier settings left; return the counts.

    crashed: which rows and sources are missing because they crashed, noted in dataset.json.
    """
    by_name = {stat.name: stat for stat in stats}
    done = [by_name[plan.name] for plan in plans]
    planned = json.loads(store.read_bytes(PLAN_PATH))
    uniform, pictures, index = _join_indices(store, done)
    splits = {
        name: {
            "clips": sum(stat.clips for stat in done if stat.split == name),
            "sources": sources,
            "shards": sum(stat.split == name for stat in done),
            "bytes": sum(stat.bytes for stat in done if stat.split == name),
        }
        for name, sources in planned["sources"].items()
    }
    notes = [*planned["notes"]]
    if done and not pictures:
        notes.append("the shards hold sound alone: no clip has a picture that was picked")
    counts = {
        "clips": sum(stat.clips for stat in done),
        "pictures": pictures,
        "shards": len(done),
        "bytes": sum(stat.bytes for stat in done),
        "duplicates": planned["duplicates"],
        "splits": splits,
        "notes": notes,
        **({"crashed": dict(crashed)} if crashed and crashed["rows"] else {}),
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
            stat.file: {"clips": stat.clips, "bytes": stat.bytes, "sha256": stat.sha256}
            for stat in done
        },
    }
    store.write_bytes(f"{FOLDER}/{DATASET_NAME}", seal(tree))
    remove_superseded(store, done)
    return counts


def _join_indices(
    store: Store, stats: Sequence[ShardStats]
) -> tuple[dict[str, set[Any]], int, dict[str, Any]]:
    """Write the index; return the values of the columns that ought to be uniform, how many clips
    have a picture that was picked, and the index's name and sums."""
    import pyarrow.parquet as pq

    uniform: dict[str, set[Any]] = {name: set() for name in UNIFORM_COLUMNS}
    pictures = 0
    tables = [rows_path(stat.name) for stat in stats]
    names = {name for table in tables for name in column_names(store, table)}
    schema = index_schema(names)  # what was measured of any clip is a column of all
    with store.writing(f"{FOLDER}/{INDEX_NAME}") as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in tables:
                for batch in iter_batches(store, table):
                    writer.write_batch(in_schema(batch, schema))
                    pictures += len(batch) - batch.column("jpg_offset").null_count
                    for name, seen in uniform.items():
                        seen.update(batch.column(name).unique().to_pylist())
        index = {"bytes": temporary.stat().st_size, "sha256": sha256_file(temporary)}
    return uniform, pictures, {"name": INDEX_NAME, **index}
