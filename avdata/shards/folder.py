"""What a folder of shards holds, and how its members are read.

train-000000.tar ...   WebDataset tars
index.parquet          one row per clip: split, shard, byte range of every member
dataset.json           counts, checksums, settings; written last, so it means "complete"
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from avdata.errors import ShardError, StoreError
from avdata.store import Store, is_remote

if TYPE_CHECKING:
    pass

FORMAT = "avdata-shards"
FORMAT_VERSION = 1
FOLDER = "shards"
INDEX_NAME = "index.parquet"
DATASET_NAME = "dataset.json"
SEAL = "self_sha256"


class ByteRange(NamedTuple):
    """A stretch of a file."""

    path: str
    offset: int
    bytes: int


def open_folder(folder: str | os.PathLike[str]) -> Store:
    """Return the folder of shards at `folder`, which may also be the run that made it.

    Raises ShardError if there is no complete dataset.
    """
    root = os.fspath(folder).rstrip("/")
    for path in (root, f"{root}/{FOLDER}"):
        if Store(path).exists(DATASET_NAME):
            return Store(path)
    raise ShardError(
        f"no {DATASET_NAME} in {root} or {root}/{FOLDER}: not a folder of shards, or the run that "
        "makes it has not finished (rerun it)"
    )


def seal(tree: Mapping[str, Any]) -> bytes:
    """Return `tree` as JSON that carries its own checksum."""
    body = {name: value for name, value in tree.items() if name != SEAL}
    return _dump({**body, SEAL: hashlib.sha256(_dump(body)).hexdigest()})


def read_dataset(store: Store) -> dict[str, Any]:
    """Return dataset.json; raises ShardError if it was changed or is of another format."""
    data = store.read_bytes(DATASET_NAME)
    where = store.full(DATASET_NAME)
    try:
        tree = json.loads(data)
    except ValueError as error:
        raise ShardError(f"{where} is damaged: {error}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ShardError(f"{where} does not describe {FORMAT}")
    if tree.get("version") != FORMAT_VERSION:
        raise ShardError(
            f"{where} has format version {tree.get('version')!r}, this avdata reads "
            f"{FORMAT_VERSION}; pack the shards again or use the avdata that made them"
        )
    if data != seal(tree):
        raise ShardError(f"{where} was changed after it was written: its own checksum differs")
    return tree


def read_ranges(store: Store, ranges: Sequence[ByteRange]) -> list[bytes]:
    """Return the bytes of each range; every file is opened once, remote ones are read together.

    Raises StoreError if a file is missing or ends before a range does.
    """
    read = _read_remote if ranges and is_remote(store.full(ranges[0].path)) else _read_local
    try:
        found = read(store, ranges)
    except FileNotFoundError as error:
        raise StoreError(
            f"a file is missing that was there before ({error}); run the pipeline again"
        ) from None
    for wanted, data in zip(ranges, found, strict=True):
        if len(data) != wanted.bytes:
            raise StoreError(
                f"{store.full(wanted.path)} ends before byte {wanted.offset + wanted.bytes}: it "
                "was truncated or changed; make it again"
            )
    return found


def _read_local(store: Store, ranges: Sequence[ByteRange]) -> list[bytes]:
    found = [b""] * len(ranges)
    for path, numbers in _numbers_by_path(ranges).items():
        descriptor = os.open(store.full(path), os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            for number in sorted(numbers, key=lambda n: ranges[n].offset):
                wanted = ranges[number]
                found[number] = os.pread(descriptor, wanted.bytes, wanted.offset)
        finally:
            os.close(descriptor)
    return found


def _read_remote(store: Store, ranges: Sequence[ByteRange]) -> list[bytes]:
    import fsspec

    filesystem, _ = fsspec.core.url_to_fs(store.full(ranges[0].path))
    return list(
        filesystem.cat_ranges(
            [filesystem._strip_protocol(store.full(r.path)) for r in ranges],
            [r.offset for r in ranges],
            [r.offset + r.bytes for r in ranges],
            on_error="raise",
        )
    )


def _numbers_by_path(ranges: Iterable[ByteRange]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, wanted in enumerate(ranges):
        numbers.setdefault(wanted.path, []).append(number)
    return numbers


def _dump(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False).encode()
