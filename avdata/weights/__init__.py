"""Where pretrained weights come from: one table, every file known by its SHA-256.

Files are looked for in this order: a path that the user gives, the cache, the sources of the table.
What is in the cache was checked; it is checked again when its size or time has changed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from avdata.errors import WeightsError
from avdata.store import sha256_file
from avdata.weights.sources import NotHadError, bring
from avdata.weights.table import Entry, entries, entry, register

__all__ = ["Entry", "cached_folder", "delete", "entries", "entry", "folder", "get", "is_here"]
__all__ += ["path", "register", "resolve"]

logger = logging.getLogger(__name__)

CHECKED = "checked.json"
"""Beside the files: what was checked, as {file: {sha256, bytes, mtime_ns}}."""

UNFINISHED = ".partial"


def cache_folder() -> Path:
    """Return where weights are kept: $AVDATA_CACHE, or the user's cache folder."""
    if given := os.environ.get("AVDATA_CACHE"):
        return Path(given) / "weights"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "avdata" / "weights"


def cached_folder(name: str) -> Path:
    """Return where the cache keeps an entry, whether or not it is there."""
    return cache_folder() / entry(name).name


def path(name: str, given: str | Path | None = None, *, download: bool = True) -> Path:
    """Return the only file of an entry: `given`, or the one in the cache.

    One that is not there is downloaded if it may be. Raises WeightsError if it is missing or not
    the file of the table.
    """
    file = entry(name).file
    if given is None:
        return folder(name, download=download) / file
    given = Path(given)
    if not given.is_file():
        raise WeightsError(f"weights {name!r}: {given} does not exist; {_advice(name)}")
    found, wanted = sha256_file(given), entry(name).sha256
    if wanted and found != wanted:
        raise _another_file(name, given, found, wanted)
    return given


def folder(name: str, *, download: bool = True) -> Path:
    """Return the folder with the files of an entry, downloaded if they may be.

    Raises WeightsError if one is missing or not the file of the table.
    """
    if download:
        return get(name)
    here = cached_folder(name)
    for file, wanted in entry(name).files.items():
        if not (here / file).is_file():
            raise WeightsError(
                f"weights {name!r}: not in the cache ({here / file}); {_advice(name)}"
            )
        found, wanted = _sha256(here, file), wanted or _recorded(here, file)
        if wanted and found != wanted:
            raise _another_file(name, here / file, found, wanted)
    return here


def resolve(name_or_path: str | Path) -> Path:
    """Return a path as it is; for a name of the table its file or folder, had if it is not here.

    What lies at a path of that name comes first. Raises WeightsError.
    """
    given = Path(name_or_path)
    if given.exists() or str(name_or_path) not in entries():
        return given
    row = entry(str(name_or_path))
    return path(row.name) if len(row.files) == 1 else folder(row.name)


def is_here(name: str) -> bool:
    """Tell whether the cache has all files of an entry (it does not check them)."""
    return all((cached_folder(name) / file).is_file() for file in entry(name).files)


def get(name: str) -> Path:
    """Return the folder of an entry, first downloading what is missing or damaged there.

    Raises WeightsError, with what every source answered, if a file cannot be had.
    """
    import filelock

    row, here = entry(name), cached_folder(name)
    try:
        here.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(here / ".lock"):
            for file, wanted in row.files.items():
                if not (here / file).is_file():
                    _download(row, file, here)
                    continue
                found = _sha256(here, file)
                if (wanted or _recorded(here, file) or found) == found:
                    _record(here, file, found)
                else:
                    _download(row, file, here)
            for left in (here / UNFINISHED, *here.glob(".tmp-*")):
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        raise WeightsError(
            f"weights {name!r}: cannot write {here}: {error}; set AVDATA_CACHE to another folder"
        ) from None
    return here


def delete(name: str) -> None:
    """Remove an entry from the cache, with what is left of unfinished downloads."""
    shutil.rmtree(cached_folder(name), ignore_errors=True)


def _download(row: Entry, file: str, here: Path) -> None:
    answers = []
    for source in row.sources:
        logger.warning("getting %s of weights %r from %s", file, row.name, source)
        try:
            brought = bring(source, file, here / UNFINISHED)
        except NotHadError as error:
            answers.append(f"{source}: {error}")
            continue
        found, wanted = sha256_file(brought), row.files[file] or _recorded(here, file)
        if wanted is None:
            logger.warning(
                "nobody has published a SHA-256 of %s: that of this download is recorded, %s",
                *(file, found),
            )
        elif found != wanted:
            answers.append(f"{source}: another file (sha256 {found})")
            brought.unlink()
            continue
        (here / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(brought, here / file)
        _record(here, file, found)
        return
    raise WeightsError(
        f"weights {row.name!r}: {file} (sha256 {row.files[file] or 'unknown'}) could not be had. "
        + "; ".join(answers)
        + f". With a network, {_advice(row.name)}; without one, copy the file to {here / file}"
    )


def _sha256(here: Path, file: str) -> str:
    """Return the digest of a file, computed anew only if the file is not the one known."""
    info = (here / file).stat()
    known = _checked(here).get(file, {})
    if (known.get("bytes"), known.get("mtime_ns")) == (info.st_size, info.st_mtime_ns):
        return str(known["sha256"])
    return sha256_file(here / file)


def _checked(here: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads((here / CHECKED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _recorded(here: Path, file: str) -> str | None:
    """Return the digest that a file had when it was checked last."""
    return _checked(here).get(file, {}).get("sha256")


def _record(here: Path, file: str, sha256: str) -> None:
    info = (here / file).stat()
    row = {"sha256": sha256, "bytes": info.st_size, "mtime_ns": info.st_mtime_ns}
    temporary = here / f".{CHECKED}"
    temporary.write_text(json.dumps({**_checked(here), file: row}, indent=1))
    os.replace(temporary, here / CHECKED)


def _advice(name: str) -> str:
    return f"run: avdata weights get {name}"


def _another_file(name: str, path: Path, found: str, wanted: str) -> WeightsError:
    return WeightsError(
        f"weights {name!r}: {path} is another file (sha256 {found}, expected {wanted}); "
        + _advice(name)
    )
