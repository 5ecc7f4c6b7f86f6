"""Stretches of files, many at once: every file is opened once, remote ones are read together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from avdata.errors import StoreError
from avdata.store import Store, is_remote


class ByteRange(NamedTuple):
    """A stretch of a file."""

    path: str
    offset: int
    bytes: int


class LostRangeError(StoreError):
    """A file is gone, or ends before the stretch that is asked for does."""


def read_stretches(store: Store, ranges: Sequence[ByteRange]) -> list[bytes]:
    """Return the bytes of each range.

    Raises LostRangeError for what is not there, StoreError for what cannot be read.
    """
    if not ranges:
        return []
    read = _read_remote if is_remote(store.full(ranges[0].path)) else _read_local
    try:
        found = read(store, ranges)
    except FileNotFoundError as error:
        raise LostRangeError(
            f"a file is missing that was there before ({error}); run the pipeline again"
        ) from None
    except Exception as error:  # remote filesystems raise errors of their own
        raise StoreError(f"cannot read {store.full(ranges[0].path)}: {error!r}") from error
    for wanted, data in zip(ranges, found, strict=True):
        if len(data) != wanted.bytes:
            raise LostRangeError(
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
