"""Any folder of media files: one row per file, sorted by path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.importers.base import split_name
from avdata.manifest.keys import slug
from avdata.manifest.rows import Row
from avdata.strict import setting

EXTENSIONS = "mp4 m4v mov mkv webm avi mpg mpeg mts m2ts ts flv ogv 3gp wmv"
ENDINGS = tuple("." + extension for extension in EXTENSIONS.split())
SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Which files are taken, and what their folders mean."""

    extensions: tuple[str, ...] = setting(
        tuple(EXTENSIONS.split()), "File name extensions, any case."
    )
    labels: Literal["none", "folder"] = setting(
        "none", "folder: the name of the folder a file lies in is its label."
    )
    splits: Literal["none", "folder"] = setting(
        "none", "folder: the topmost folder (train, valid, test, …) is the split."
    )


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per media file below each folder, hidden ones left out."""
    endings = tuple("." + extension.lower().lstrip(".") for extension in options.extensions)
    for top in files:
        if not top.is_dir():
            raise ManifestError(f"{top} is not a folder")
        found = 0
        for path in media_files(top, endings):
            found += 1
            relative = path.relative_to(top)
            try:
                str(relative).encode()
            except UnicodeEncodeError:
                name = os.fsencode(relative).decode("utf-8", "backslashreplace")
                yield name, ClipError(Reason.BAD_ROW, "the name is not UTF-8; rename the file")
                continue
            folders = relative.parts[:-1]
            yield (
                str(relative),
                {
                    "url": os.path.abspath(path),
                    "source_id": slug("-".join((*folders, path.stem)), str(relative), 80),
                    "labels": list(folders[-1:]) if options.labels == "folder" else [],
                    "split": split_name(folders[0])
                    if options.splits == "folder" and folders
                    else "",
                },
            )
        if not found:
            raise ManifestError(f"{top} holds no file named {' '.join('*' + e for e in endings)}")


def media_files(top: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below `top` that end so, sorted, hidden ones left out."""
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(endings):
                yield Path(folder, name)
