"""What a step is, and the context in which it works on one part."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol

from avdata.clip import Clip, Frame, Member, Status
from avdata.errors import ClipError, Reason, StoreError
from avdata.store import Store


class Step(Protocol):
    """One data operation: clips of one part in, clips out, media on disk beside.

    A step is built from its settings alone, on whichever machine runs it, and must give the same
    output for the same clips, settings and seed. It raises nothing for bad input: a ClipError
    becomes a row (see `guarded`). Any other exception is a bug and fails the part.
    """

    name: ClassVar[str]
    version: ClassVar[int]  # raise it when the output for the same input changes

    def fingerprint(self) -> dict[str, Any]:
        """Return all that the output depends on besides the clips: settings, digests of files."""
        ...

    def run(self, clips: Sequence[Clip], part: PartContext) -> list[Clip]:
        """Return what becomes of the clips; clips that are not ACTIVE pass through unchanged."""
        ...


@dataclass
class PartContext:
    """What a step may use while it works on one part."""

    store: Store  # the run's folder
    media_path: str  # relative path of the media tar this part may write
    scratch: Path  # local folder, removed afterwards
    seed: int
    _tar: MediaTar | None = field(default=None, repr=False)

    @property
    def media(self) -> MediaTar:
        """The part's media tar, opened at first use."""
        if self._tar is None:
            self._tar = MediaTar(self.scratch / "media.tar")
        return self._tar

    @property
    def has_media(self) -> bool:
        """Whether the part wrote a media tar."""
        return self._tar is not None

    def finish(self) -> None:
        """Move the media tar, if one was written, to its place."""
        if self._tar is None:
            return
        self._tar.close()
        with self.store.writing(self.media_path) as target:
            shutil.move(self._tar.path, target)


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


def guarded(step: str, clip: Clip, work: Callable[[Clip], Clip]) -> Clip:
    """Return `work(clip)`, or the clip with its reason if that raised a ClipError."""
    if clip.status is not Status.ACTIVE:
        return clip
    try:
        return work(clip)
    except ClipError as error:
        return clip.failed(step, error)


def by_source(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Group clips by the URL they come from, keeping the order of first appearance.

    Rows of a manifest without a usable URL stand alone.
    """
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.url or f"key {clip.key}", []).append(clip)
    return list(groups.values())
