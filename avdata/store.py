"""Where runs live: a folder, local or behind any fsspec URL, with atomic writes.

Existence means complete: everything is written beside under a temporary name, then renamed.
Paths inside a run are relative to its root, so a run can be moved and still be read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from avdata.errors import LockedError, StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TEMPORARY_PREFIX = ".tmp-"
TEMPORARY_NAME = re.compile(r"\.tmp-\d+-[0-9a-f]{8}-.+")  # process id, random, final name
SCRATCH_FOLDER = ".scratch"
REMOTE_EXTRA = "what s3:// and sftp:// need comes with: pip install 'avdata[cluster]'"
LOCK_NAME = ".lock"


def is_remote(path: str) -> bool:
    """Tell whether `path` is an fsspec URL such as s3://bucket/key."""
    return "://" in path


def join(root: str, relative: str) -> str:
    """Join a path to `root`; absolute paths and URLs stay as they are."""
    if is_remote(relative) or os.path.isabs(relative):
        return relative
    return f"{root.rstrip('/')}/{relative}" if is_remote(root) else os.path.join(root, relative)


@dataclass(frozen=True)
class Store:
    """A folder addressed by relative paths; cheap to pickle and to make on any worker."""

    root: str

    @cached_property
    def remote(self) -> bool:
        return is_remote(self.root)

    @cached_property
    def _filesystem(self) -> AbstractFileSystem:
        return _filesystem_at(self.root)[0]

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def full(self, path: str) -> str:
        """Return the full path or URL of `path`."""
        return join(self.root, path)

    def _remote(self, path: str) -> tuple[AbstractFileSystem, str] | None:
        """Return the filesystem and its own path for a remote `path`, None for a local one."""
        full = self.full(path)
        if self.remote and full.startswith(self.root):
            return self._filesystem, self._filesystem._strip_protocol(full)
        return _filesystem_at(full) if is_remote(full) else None

    def exists(self, path: str) -> bool:
        """Tell whether `path` is there (and therefore complete)."""
        if remote := self._remote(path):
            with _reached(self.full(path)):
                return bool(remote[0].exists(remote[1]))
        return os.path.exists(self.full(path))

    def size(self, path: str) -> int:
        """Return the size in bytes."""
        if remote := self._remote(path):
            with _reached(self.full(path)):
                return int(remote[0].size(remote[1]))
        return os.path.getsize(self.full(path))

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of the content as 64 hex digits."""
        with self.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def list(self, folder: str) -> list[str]:
        """Return the names in `folder`, sorted, without unfinished files; empty if absent."""
        if remote := self._remote(folder):
            filesystem, inner = remote
            filesystem.invalidate_cache(inner)
            try:
                with _reached(self.full(folder)):
                    paths = filesystem.ls(inner, False)
            except FileNotFoundError:
                return []
            names = [str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths]
        else:
            try:
                names = os.listdir(self.full(folder))
            except FileNotFoundError:
                return []
        return sorted(n for n in names if not n.startswith(TEMPORARY_PREFIX))

    def open(self, path: str) -> IO[bytes]:
        """Open for reading, seekable."""
        if remote := self._remote(path):
            # fsspec's own files lack parts of the file interface, such as readline(limit).
            with _reached(self.full(path)):
                return io.BufferedReader(remote[0].open(remote[1], "rb"))
        return open(self.full(path), "rb")

    def read_bytes(self, path: str) -> bytes:
        """Return the whole content."""
        with self.open(path) as file:
            return file.read()

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """Give a local path to read: the file itself, or a copy of a remote one."""
        remote = self._remote(path)
        if remote is None:
            yield Path(self.full(path))
            return
        with tempfile.TemporaryDirectory(prefix="avdata-") as folder:
            target = Path(folder) / path.rstrip("/").rsplit("/", 1)[-1]
            with _reached(self.full(path)):
                remote[0].get_file(remote[1], str(target))
            yield target

    @contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """Give a local path to write; on success it becomes `path` at once, else it vanishes."""
        remote = self._remote(path)
        if remote is None:
            target = Path(self.full(path))
            _make_folder(target.parent)
            temporary = self._first_folder(path) / temporary_name(target.name)
            try:
                with explained(str(target)):
                    yield temporary
                    os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            return
        filesystem, inner = remote
        with tempfile.TemporaryDirectory(prefix="avdata-") as folder:
            local = Path(folder) / inner.rsplit("/", 1)[-1]
            yield local
            with _reached(self.full(path)):
                _put(filesystem, str(local), inner)

    def _first_folder(self, path: str) -> Path:
        """Return the folder below the root in which `path` lies, at whatever depth.

        Unfinished files wait there: on the same disk, and found without a walk through the depths.
        """
        parent = Path(self.full(path)).parent
        first, *deeper = Path(path).parts
        if os.path.isabs(path) or not deeper:
            return parent
        highest = Path(self.root, first)
        # Nothing can be renamed into a disk of its own.
        return highest if highest.stat().st_dev == parent.stat().st_dev else parent

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write `data` atomically."""
        with self.writing(path) as temporary:
            temporary.write_bytes(data)

    def delete(self, path: str) -> None:
        """Remove a file if it is there."""
        if remote := self._remote(path):
            with _reached(self.full(path)):
                if remote[0].exists(remote[1]):
                    remote[0].rm_file(remote[1])
            return
        Path(self.full(path)).unlink(missing_ok=True)

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        """Return a local folder for unfinished work, on the run's own disk when it is local."""
        if self.remote:
            return tempfile.TemporaryDirectory(prefix="avdata-")
        parent = Path(self.root) / SCRATCH_FOLDER
        _make_folder(parent)
        return tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=parent)

    def clean(self, skip: Sequence[str] = ()) -> None:
        """Remove what killed runs left unfinished, and nothing else that may lie in the folder.

        Call it only while holding the lock. skip: patterns of folders, relative to the root, that
        are not entered: they belong to another lock, or nothing unfinished can be there.
        """
        if self.remote:
            return
        scratch = Path(self.root) / SCRATCH_FOLDER
        for left in scratch.glob(TEMPORARY_PREFIX + "*"):
            shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):  # there is none, or it holds something of somebody else
            scratch.rmdir()
        for folder, folders, files in os.walk(self.root):
            inside = os.path.relpath(folder, self.root)
            for name in filter(TEMPORARY_NAME.fullmatch, [*folders, *files]):
                path = Path(folder) / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            deeper = [name for name in folders if not TEMPORARY_NAME.fullmatch(name)]
            folders[:] = [
                name
                for name in deeper
                if not any(fnmatch(os.path.normpath(f"{inside}/{name}"), p) for p in skip)
            ]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one run; the system lets go of it even when the run is killed.

        Remote folders are not locked: names are digests and writes atomic, so two runs there
        cost double work, never a wrong result.
        """
        if self.remote:
            yield
            return
        import filelock

        path = Path(self.root) / LOCK_NAME
        made = _make_folder(path.parent)
        with explained(str(path)):
            lock = filelock.FileLock(path)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                raise LockedError(
                    f"another avdata run works in {self.root}; wait for it, stop it, "
                    "or give this run another output folder"
                ) from None
        try:
            yield
        finally:
            if made:
                self._forget_empty(made)
            lock.release()

    def _forget_empty(self, made: Sequence[Path]) -> None:
        """Remove the folders that were made for the lock alone: the start has failed."""
        with suppress(OSError):
            if os.listdir(self.root) == [LOCK_NAME]:
                Path(self.root, LOCK_NAME).unlink()
                for folder in made:
                    folder.rmdir()


def _filesystem_at(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the filesystem behind a URL, and the path there; StoreError if it cannot be used."""
    import fsspec

    try:
        filesystem, inner = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(f"cannot open {url}: {error}; {REMOTE_EXTRA}") from None
    return filesystem, inner


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a local file as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; return what was made, deepest first."""
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error
    return missing


def temporary_name(name: str) -> str:
    """Return the name under which `name` is written before it is complete; `clean` knows it."""
    return f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{name}"


def _puts_are_atomic(filesystem: AbstractFileSystem) -> bool:
    protocol = filesystem.protocol
    names = {protocol} if isinstance(protocol, str) else set(protocol)
    return bool(names & {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "memory"})


def _put(filesystem: AbstractFileSystem, local: str, path: str) -> None:
    """Upload a file so that it is at `path` whole or not at all."""
    parent, _, name = path.rpartition("/")
    filesystem.makedirs(parent, exist_ok=True)
    if _puts_are_atomic(filesystem):  # object stores; others get a rename
        filesystem.put_file(local, path)
        return
    beside = f"{parent}/{temporary_name(name)}"
    try:
        filesystem.put_file(local, beside)
        filesystem.mv(beside, path)
    except BaseException:
        if filesystem.exists(beside):
            filesystem.rm_file(beside)
        raise


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """Turn what remote filesystems raise, each its own errors, into a message that names the URL.

    What is not there stays a FileNotFoundError.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StoreError(f"cannot reach or use {url}: {error!r}") from error


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn the operating system's refusals into a message that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"no space left while writing {path}; free some and rerun: what is complete is kept"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        raise
