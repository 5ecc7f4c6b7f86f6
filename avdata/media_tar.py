"""The media of one part: a plain tar, whose members are read by byte range without unpacking."""

from __future__ import annotations

import io
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from avdata.clip import Frame, Member
from avdata.errors import ClipError, Reason, StoreError
from avdata.store import Store


class MediaTar:
    """An uncompressed tar written front to back, whose members are addressed by byte range."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tar = tarfile.TarFile(path, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, name: str, data: bytes) -> Member:
        """Append a member and return where its bytes lie. Owner and time are always zero."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        padding = -len(data) % tarfile.BLOCKSIZE
        return Member(offset=self._tar.offset - len(data) - padding, bytes=len(data))

    def close(self) -> None:
        """Write the end-of-archive blocks."""
        self._tar.close()


class TarReader:
    """Reads members of media tars, each tar opened once (a remote one copied here once)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def read(self, path: str, member: Member | Frame) -> bytes:
        """Return the bytes of a member of the tar at `path`.

        Raises ClipError (corrupt) if the tar ends before, StoreError if it is not there.
        """
        file = self._files.get(path) or self._opened(path)
        file.seek(member.offset)
        data = file.read(member.bytes)
        if len(data) != member.bytes:
            raise ClipError(
                Reason.CORRUPT, f"{path} ends before byte {member.offset} + {member.bytes}"
            )
        return data

    def _opened(self, path: str) -> IO[bytes]:
        try:
            local = self._open.enter_context(self._store.local(path))
            self._files[path] = self._open.enter_context(local.open("rb"))
        except FileNotFoundError:
            raise _gone(self._store, path) from None
        return self._files[path]


def read_member(store: Store, path: str, member: Member | Frame) -> bytes:
    """Return the bytes of one member of a media tar, without copying a remote one.

    Raises StoreError if the tar is not there.
    """
    try:
        file = store.open(path)
    except FileNotFoundError:
        raise _gone(store, path) from None
    with file:
        file.seek(member.offset)
        return file.read(member.bytes)


def _gone(store: Store, path: str) -> StoreError:
    return StoreError(
        f"{store.full(path)}, which trim wrote, is gone; run trim again, or the whole pipeline on "
        "the manifest"
    )
