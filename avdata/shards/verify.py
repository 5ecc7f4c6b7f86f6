"""Prove that a folder of shards is whole: nothing missing, nothing changed, nothing added."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdata.clip import one_line
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
CHECKSUMS = tuple(f"{member}_crc32" for member in MEMBERS)  # older indexes have none
WORKING_FILES = {  # what packing leaves beside the dataset: records and plans
    ".done": re.compile(rf"{SHARD_NAME}\.(json|parquet)"),
    ".plan": re.compile(rf"plan\.json|duplicates\.parquet|{SHARD_NAME}\.parquet"),
}


def verify(folder: str, deep: bool = False) -> list[str]:
    """Return what is wrong with the shards in `folder`, a line each; nothing wrong: empty.

    Checks dataset.json against its own checksum, every tar and the index against theirs, the
    folder against the list, and the index against the members of the tars. With `deep`, every
    picture, sound and JSON is decoded too, and held against its checksum in the index.
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
        yield f"{one_line(name)}: not part of the dataset"
    index = None
    wrong = _check_file(store, INDEX_NAME, dataset["index"])
    if wrong:
        yield wrong
    else:
        try:
            index = _read_index(store, dataset)
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


def _read_index(store: Store, dataset: Mapping[str, Any]) -> pa.Table:
    """Return the index, with checksums if it has them."""
    try:
        return read_index(store, dataset, (*COLUMNS, *CHECKSUMS))
    except ShardError:
        return read_index(store, dataset, COLUMNS)


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
    except (tarfile.TarError, EOFError, ValueError, LookupError, OverflowError) as error:
        yield f"{name}: not a tar that can be read: {one_line(str(error), 160)}"
        return
    by_key: dict[str, set[int]] = {}
    for member in members.values():
        by_key.setdefault(member.name.split(".", 1)[0], set()).add(member.offset_data)
    with path.open("rb") as file:
        for row in rows:
            offsets = by_key.pop(row["key"], set())
            for kind, place in _listed(row):
                offset, size = place["offset"], place["bytes"]
                found = members.get(offset)
                offsets.discard(offset)
                if found is None or found.size != size or not _fits(found, kind, row):
                    yield f"{name}: {row['key']}: no such {kind} at byte {offset}, see the index"
                elif deep:
                    file.seek(offset)
                    wrong = _decode(kind, file.read(size), place.get("crc32"), row)
                    if wrong:
                        yield f"{name}: {found.name}: {one_line(wrong)}"
            if offsets:
                yield f"{name}: {row['key']}: not in the index: {_names(members, offsets)}"
    for key, offsets in sorted(by_key.items()):
        named = one_line(key, 160)
        yield f"{name}: {named}: not in the index: {_names(members, offsets)}"


def _names(members: Mapping[int, tarfile.TarInfo], offsets: Iterable[int]) -> str:
    """Return the members' names in one line, whatever a stranger wrote there."""
    names = sorted(members[offset].name for offset in offsets)
    return one_line(", ".join(names).encode("utf-8", "replace").decode())


def _listed(row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give kind and place of each member that an index row lists."""
    for kind in MEMBERS:
        if row[f"{kind}_offset"] is not None:
            yield kind, {name: row.get(f"{kind}_{name}") for name in ("offset", "bytes", "crc32")}
    for frame in row["frames"]:
        if frame["offset"] != row["jpg_offset"]:
            yield "jpg", frame


def _fits(member: tarfile.TarInfo, kind: str, row: Mapping[str, Any]) -> bool:
    suffix = row["audio_format"] if kind == "audio" else kind
    named = member.name.split(".", 1)[0] == row["key"] and member.name.endswith(f".{suffix}")
    return named and member.isreg()  # a link's content lies elsewhere


def _decode(kind: str, data: bytes, crc32: int | None, row: Mapping[str, Any]) -> str:
    """Return what is wrong with a member's content, or an empty text."""
    from avdata import audio, frames

    if crc32 is not None and zlib.crc32(data) != crc32:
        return f"its CRC-32 is {zlib.crc32(data):08x}, the index says {crc32:08x}"
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
