"""Prove that a folder of shards is whole: nothing missing, nothing changed, nothing added."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdata.errors import ClipError, ShardError
from avdata.shards.checked import MEMBERS, SHARD_NAME
from avdata.shards.folder import DATASET_NAME, INDEX_NAME, open_folder, read_dataset
from avdata.shards.index import read_index
from avdata.shards.sealed import parse_json
from avdata.store import Store, sha256_file

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    *("key", "split", "shard", "labels", "audio_format", "sample_rate_hz", "n_samples"),
    *("width_px", "height_px", "frames"),
    *(f"{member}_{name}" for member in MEMBERS for name in ("offset", "bytes")),
)
WORKING_FILES = {  # what packing leaves beside the dataset: records and plans
    ".done": re.compile(rf"{SHARD_NAME}\.(json|parquet)"),
    ".plan": re.compile(rf"plan\.json|duplicates\.parquet|{SHARD_NAME}\.parquet"),
}


def verify(folder: str, deep: bool = False) -> list[str]:
    """Return what is wrong with the shards in `folder`, a line each; nothing wrong: empty.

    Checks dataset.json against its own checksum, every tar and the index against theirs, the
    folder against the list, and the index against the members of the tars. With `deep`, every
    picture, sound and JSON is decoded too.
    """
    try:
        store = open_folder(folder)
        dataset = read_dataset(store)
    except ShardError as error:
        return [str(error)]
    return list(_problems(store, dataset, deep))


def _problems(store: Store, dataset: Mapping[str, Any], deep: bool) -> Iterator[str]:
    listed = dataset["files"]
    for name in _added(store, {DATASET_NAME, INDEX_NAME, *listed}):
        yield f"{name}: not part of the dataset"
    index = None
    wrong = _check_file(store, INDEX_NAME, dataset["index"])
    if wrong:
        yield wrong
    else:
        try:
            index = read_index(store, dataset, COLUMNS)
        except ShardError as error:
            yield str(error)
    if index is not None and index.num_rows != dataset["clips"]:
        yield f"{INDEX_NAME}: {index.num_rows} rows, {dataset['clips']} expected"
    for name, facts in sorted(listed.items()):
        if not store.exists(name):
            yield f"{name}: missing"
            continue
        with store.local(name) as path:
            wrong = _check_local(name, path, facts)
            if wrong:
                yield wrong
            elif index is not None:
                yield from _check_members(name, path, _rows_of(index, name), deep)


def _added(store: Store, known: set[str]) -> Iterator[str]:
    """Give what lies in the folder and belongs neither to the dataset nor to packing it."""
    for name in store.list(""):
        if name in WORKING_FILES:
            inside = store.list(name)
            yield from (f"{name}/{n}" for n in inside if not WORKING_FILES[name].fullmatch(n))
        elif name not in known:
            yield name


def _check_file(store: Store, name: str, facts: Mapping[str, Any]) -> str:
    if not store.exists(name):
        return f"{name}: missing"
    with store.local(name) as path:
        return _check_local(name, path, facts)


def _check_local(name: str, path: Path, facts: Mapping[str, Any]) -> str:
    """Return what is wrong with a file's size or checksum, or an empty text."""
    size = path.stat().st_size
    if size != facts["bytes"]:
        return f"{name}: {size} bytes, {facts['bytes']} expected"
    sha256 = sha256_file(path)
    if sha256 != facts["sha256"]:
        return f"{name}: changed, its sha256 is {sha256}, {facts['sha256']} expected"
    return ""


def _rows_of(index: pa.Table, shard: str) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    rows: list[dict[str, Any]] = index.filter(pc.equal(index.column("shard"), shard)).to_pylist()
    return rows


def _check_members(name: str, path: Path, rows: list[dict[str, Any]], deep: bool) -> Iterator[str]:
    """Compare what the index says with the headers in the tar; decode what they hold if `deep`."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = {m.offset_data: m for m in tar}
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        yield f"{name}: not a tar that can be read: {error}"
        return
    by_key: dict[str, set[int]] = {}
    for member in members.values():
        by_key.setdefault(member.name.split(".", 1)[0], set()).add(member.offset_data)
    with path.open("rb") as file:
        for row in rows:
            offsets = by_key.pop(row["key"], set())
            for kind, offset, size in _listed(row):
                found = members.get(offset)
                offsets.discard(offset)
                if found is None or found.size != size or not _fits(found.name, kind, row):
                    yield f"{name}: {row['key']}: no such {kind} at byte {offset}, see the index"
                elif deep:
                    file.seek(offset)
                    wrong = _decode(kind, file.read(size), row)
                    if wrong:
                        yield f"{name}: {found.name}: {wrong}"
            if offsets:
                extra = ", ".join(sorted(members[offset].name for offset in offsets))
                yield f"{name}: {row['key']}: not in the index: {extra}"
    for key in sorted(by_key):
        yield f"{name}: {key}: not in the index"


def _listed(row: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Give kind, offset and size of each member that an index row lists."""
    for kind in MEMBERS:
        if row[f"{kind}_offset"] is not None:
            yield kind, row[f"{kind}_offset"], row[f"{kind}_bytes"]
    for frame in row["frames"]:
        if frame["offset"] != row["jpg_offset"]:
            yield "jpg", frame["offset"], frame["bytes"]


def _fits(member: str, kind: str, row: Mapping[str, Any]) -> bool:
    suffix = row["audio_format"] if kind == "audio" else kind
    return member.split(".", 1)[0] == row["key"] and member.endswith(f".{suffix}")


def _decode(kind: str, data: bytes, row: Mapping[str, Any]) -> str:
    """Return what is wrong with a member's content, or an empty text."""
    from avdata import audio, frames

    try:
        if kind == "jpg":
            height_px, width_px = frames.decode_jpeg(data).shape[:2]
            if (width_px, height_px) != (row["width_px"], row["height_px"]):
                return (
                    f"{width_px}x{height_px}, the index says {row['width_px']}x{row['height_px']}"
                )
        elif kind == "audio":
            samples, sample_rate_hz = audio.decode(data)
            if (len(samples), sample_rate_hz) != (row["n_samples"], row["sample_rate_hz"]):
                return (
                    f"{len(samples)} samples at {sample_rate_hz} Hz, the index says "
                    f"{row['n_samples']} at {row['sample_rate_hz']} Hz"
                )
        elif kind == "json" and parse_json(data)["key"] != row["key"]:
            return f"describes {parse_json(data)['key']!r:.80}"
    except ClipError as error:
        return error.detail
    except (ValueError, KeyError, TypeError) as error:
        return f"not a clip's JSON: {error}"
    return ""
