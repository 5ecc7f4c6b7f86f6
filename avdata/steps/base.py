"""What a step is, and the context in which it works on one part."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from avdata.clip import Clip, Status
from avdata.errors import ClipError
from avdata.media_tar import MediaTar
from avdata.store import Store, sha256_file


class Step(Protocol):
    """One data operation: clips of one part in, clips out, media on disk beside.

    A step is built from its settings alone, on whichever machine runs it, and must give the same
    output for the same clips, settings and seed. It raises nothing for bad input: a ClipError
    becomes a row (see `guarded`). Any other exception is a bug and fails the clip's source, loudly.
    """

    name: ClassVar[str]
    version: ClassVar[int]  # raise it when the output for the same input changes

    @property
    def uses_seed(self) -> bool:
        """Whether the output depends on the run's seed."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what the output depends on besides clips and seed: settings, digests of files."""
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

    def finish(self) -> str:
        """Move the media tar to its place and return its SHA-256; "" if none was written."""
        if self._tar is None:
            return ""
        self._tar.close()
        sha256 = sha256_file(self._tar.path)
        with self.store.writing(self.media_path) as target:
            shutil.move(self._tar.path, target)
        return sha256


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
