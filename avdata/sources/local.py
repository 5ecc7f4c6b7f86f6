"""Local files as sources."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from avdata.errors import ClipError, Reason


def check_file(path: str) -> os.stat_result:
    """Return the stat of a readable regular file (links are followed).

    Raises ClipError: bad_url, not_found, not_media (a folder or a device), forbidden or empty.
    """
    try:
        info = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ClipError(Reason.NOT_FOUND, f"no such file: {path!r}") from None
    except PermissionError:
        raise ClipError(Reason.FORBIDDEN, f"no permission to look at {path!r}") from None
    except (OSError, ValueError) as error:  # too long, a loop of links, a NUL byte
        raise ClipError(Reason.BAD_URL, f"not a usable path: {path[:200]!r} ({error})") from None
    if stat.S_ISDIR(info.st_mode):
        raise ClipError(
            Reason.NOT_MEDIA, f"{path!r} is a folder; import it as a manifest of its files"
        )
    if not stat.S_ISREG(info.st_mode):
        raise ClipError(Reason.NOT_MEDIA, f"{path!r} is a device, pipe or socket, not a file")
    if not os.access(path, os.R_OK):
        raise ClipError(Reason.FORBIDDEN, f"no permission to read {path!r}")
    if info.st_size == 0:
        raise ClipError(Reason.EMPTY, f"{path!r} has no bytes")
    return info


def place(source: Path, target: Path, how: str) -> None:
    """Put the file `source` at `target`: `link` (hard link, a copy where impossible) or `copy`."""
    if how == "link":
        try:
            os.link(source.resolve(), target)
            return
        except OSError:  # another filesystem, or one without links, or a stranger's file
            pass
    shutil.copyfile(source, target)
