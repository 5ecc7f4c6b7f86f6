"""What a folder of shards holds, and how its members are read.

train-000000-1a2b3c4d5e6f.tar ...   WebDataset tars
index.parquet                       one row per clip: split, shard, byte range of every member
dataset.json                        counts, checksums, settings; written last: it means "complete"

A tar's name ends in the first digits of its SHA-256, so packing again never puts other content
under a name that somebody may still read: readers get what they opened, or a ShardError. Folders
of before, whose tars are named without digits, are read too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from avdata.errors import ShardError, StoreError
from avdata.shards.checked import dataset_problem
from avdata.shards.ranges import ByteRange, LostRangeError, read_stretches
from avdata.shards.sealed import SEAL, is_sealed, parse_json, seal
from avdata.store import Store

__all__ = ["SEAL", "ByteRange", "open_folder", "read_dataset", "read_ranges", "seal"]

FORMAT = "avdata-shards"
FORMAT_VERSION = 1
FOLDER = "shards"
INDEX_NAME = "index.parquet"
DATASET_NAME = "dataset.json"


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


def read_dataset(store: Store) -> dict[str, Any]:
    """Return dataset.json; raises ShardError if it is gone, changed or of another format."""
    where = store.full(DATASET_NAME)
    try:
        with store.local(DATASET_NAME) as path:  # not `open`: that may go by a remembered listing
            data = path.read_bytes()
        tree = parse_json(data)
    except FileNotFoundError:
        raise ShardError(f"{where} is gone; the folder is being packed again, or rerun") from None
    except OSError as error:
        raise ShardError(f"{where} cannot be read: {error}") from None
    except ValueError as error:
        raise ShardError(f"{where} is damaged: {error}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ShardError(f"{where} does not describe {FORMAT}")
    version = tree.get("version")
    if version is True or version != FORMAT_VERSION:
        raise ShardError(
            f"{where} has format version {version!r:.40}, this avdata reads "
            f"{FORMAT_VERSION}; pack the shards again or use the avdata that made them"
        )
    if not is_sealed(data, tree):
        raise ShardError(f"{where} was changed after it was written: its own checksum differs")
    if problem := dataset_problem(tree, INDEX_NAME):
        raise ShardError(f"{where} makes no sense: {problem}; pack the shards again")
    return tree


def read_ranges(store: Store, ranges: Sequence[ByteRange]) -> list[bytes]:
    """Return the bytes of each range of the shards in `store`, in order.

    Raises ShardError if a shard is gone or too short, StoreError if it cannot be reached.
    """
    try:
        return read_stretches(store, ranges)
    except LostRangeError as error:
        raise ShardError(_why_lost(store, ranges) or str(error)) from None


def _why_lost(store: Store, ranges: Sequence[ByteRange]) -> str:
    """Say that the folder was packed again, if it was; else an empty text."""
    try:
        listed = read_dataset(store)["files"]
    except (ShardError, StoreError):
        return ""
    gone = next((r.path for r in ranges if r.path not in listed), None)
    if gone is None:
        return ""
    return (
        f"{store.full(gone)} is missing: {store.root} was packed again since this folder was "
        "opened; open it anew"
    )
