"""A body on its way to disk: what has come, its running hash, which version it belongs to."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from avdata.errors import StoreError
from avdata.sources.limits import stated_number

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one version of a file at a URL from another."""

    etag: str = ""
    last_modified: str = ""
    total: int | None = None  # bytes of the whole file
    start: int = 0  # where the sent range begins

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Version:
        """Read the version from an answer's headers (of the whole file, or of a range of it)."""
        encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
        total = stated_number(headers.get("Content-Length", ""))
        start = 0
        if content_range := headers.get("Content-Range"):
            match = re.fullmatch(r"bytes (?:(\w+)-\w+|\*)/(\w+|\*)", content_range.strip())
            first = stated_number(match[1] or "") if match else None
            start = -1 if first is None else first
            total = stated_number(match[2]) if match else None
        if encoded:  # ranges would be of the compressed bytes
            return cls(start=start)
        return cls(headers.get("ETag", ""), headers.get("Last-Modified", ""), total, start)

    def may_be(self, other: Version) -> bool:
        """Tell whether nothing says that these are different versions, and something that not."""
        pairs = (
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
            (self.total, other.total),
        )
        known = [(a, b) for a, b in pairs if a and b]
        return bool(known) and all(a == b for a, b in known)


class PartialFile:
    """An unfinished download; a process that is killed leaves it so that the next can go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._notes = path.with_name(path.name + ".json")
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self.version = Version()
        self.size = 0
        self._load()

    def __str__(self) -> str:
        return f"{self.size} of {self.version.total or 'unknown many'} bytes"

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def _load(self) -> None:
        try:
            self.version = Version(**json.loads(self._notes.read_bytes()))
            with self.path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    self._hash.update(block)
                    self.size += len(block)
        except (OSError, ValueError, TypeError):
            self.discard()

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest, empty if all has to be asked for."""
        version = self.version
        if not self.size or not (version.etag or version.last_modified or version.total):
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        if version.etag and not version.etag.startswith("W/"):
            headers["If-Range"] = version.etag
        elif version.last_modified:
            headers["If-Range"] = version.last_modified
        return headers

    def goes_on_with(self, sent: Version) -> bool:
        """Tell whether the range that was sent continues what is here."""
        return self.size > 0 and sent.start == self.size and self.version.may_be(sent)

    def is_whole(self, sent: Version) -> bool:
        """Tell whether all bytes are here already, from an answer that there are no more."""
        return self.size > 0 and sent.total == self.size and self.version.may_be(sent)

    def start(self, version: Version) -> None:
        """Begin anew with the first byte of `version`."""
        self.discard()
        self.version = version
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._notes.write_text(json.dumps(asdict(version)))
        except OSError as error:
            raise _cannot_write(self._notes, error) from error

    def append(self, block: bytes) -> None:
        """Add bytes at the end."""
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self._hash.update(block)
        self.size += len(block)

    def close(self) -> None:
        """Let go of the file; what is on disk stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Forget all that came."""
        self.close()
        for path in (self.path, self._notes):
            path.unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self.version = Version()
        self.size = 0


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {os.strerror(error.errno or 0)}; make room or permit it and rerun: "
        "what is complete is kept"
    )
