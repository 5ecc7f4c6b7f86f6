"""Where the sounds of a list lie: in its own archive, unpacked, or in a folder of one's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.importers.folder import SOUND_ENDINGS, media_files
from avdata.strict import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundOptions:
    """Where the sounds lie; options that several importers share."""

    media: str | None = setting(
        None,
        "Folder of the sounds one holds, all files below it, found by their names; null: the "
        "folder `audio` beside the one that the list lies in, as the archive unpacks.",
    )


class SoundFiles:
    """Finds files by their names, whatever folder they are in and whatever they were turned into.

    media: the option; listed_in: the list, whose archive holds the folder `audio`.
    """

    def __init__(self, media: str | None, listed_in: Path) -> None:
        beside = Path(os.path.abspath(listed_in)).parent.parent / "audio"
        folder = beside if media is None else Path(os.path.abspath(media))
        if not folder.is_dir():
            raise ManifestError(
                f"no folder {folder} with the sounds of {listed_in.name}; say where they lie with "
                "--option media=FOLDER"
            )
        self._folder = folder
        self._paths: dict[str, Path] = {}
        for path in media_files(folder, SOUND_ENDINGS):
            self._paths.setdefault(path.stem, path)
        if not self._paths:
            raise ManifestError(
                f"{folder} holds no file named {' '.join('*' + e for e in SOUND_ENDINGS)}"
            )

    def path(self, name: str) -> str:
        """Return the path of the file of this name, its ending aside; raises ClipError."""
        found = self._paths.get(os.path.splitext(name)[0])
        if found is None:
            raise ClipError(Reason.NOT_FOUND, f"no file {name[:80]} in {self._folder}")
        return str(found)
