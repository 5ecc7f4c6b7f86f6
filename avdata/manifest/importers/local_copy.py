"""A copy of a dataset that one holds: which file is which listed clip, and where it begins.

Most copies were cut beforehand: a file begins where the list says that the clip does, so that the
row's window is the file's first seconds. Where the file begins in the original video is kept in the
attribute `source_start_ms`; published moments are still found by it.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avdata.errors import ClipError, ManifestError, Reason, SettingsError
from avdata.manifest.importers.folder import ENDINGS, SOUND_ENDINGS, media_files
from avdata.manifest.keys import default_key
from avdata.manifest.rows import Row, read_time_ms
from avdata.strict import setting

PATTERNS = (
    "{id}_{start_s:06d}",
    "{id}_{start_ms}_{end_ms}",
    "{id}_{start_s}_{end_s}",
    "{id}_{start_s}",
    "{id}",
)
"""How files of copies are called, in the order in which they are looked for."""

FIELDS = {"id": "", "label": "", "start_ms": 0, "end_ms": 0, "start_s": 0, "end_s": 0}
SLACK_MS = 2000  # a clip that was cut at key frames is longer than asked
TOLERANCE_MS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """Where a copy of the videos lies; options that several importers share."""

    media: str | None = setting(
        None,
        "Folder of the videos one holds (all files below it, by the usual names: "
        f"{', '.join(PATTERNS)}), or a pattern: FOLDER/{{label}}/{{id}}_{{start_s:06d}}. Rows that "
        "it lacks are listed and left out. Sounds are taken where there is no video. null: the "
        "rows name the videos' homes.",
    )
    cut: bool | None = setting(
        None,
        "Whether the files are the clips (true) or whole videos (false); null: clips where the "
        "name holds a time, else by the file's length.",
    )


class LocalCopy:
    """Gives rows of a list the files of a copy."""

    def __init__(self, media: str, cut: bool | None) -> None:
        folder, pattern = _split(media)
        self._folder, self._cut = Path(os.path.abspath(folder)), cut
        self._patterns = (pattern,) if pattern else PATTERNS
        if not self._folder.is_dir():
            raise ManifestError(f"media: {self._folder} is not a folder")
        self._files: dict[str, str] = {}
        for endings in (ENDINGS, SOUND_ENDINGS):  # a video before a sound of its name
            for path in media_files(self._folder, endings):
                relative = str(path.relative_to(self._folder))
                name = os.path.splitext(relative if pattern else path.name)[0]
                self._files.setdefault(name, relative)
        if not self._files:
            raise ManifestError(f"media: {self._folder} holds no video and no sound")
        self._taken: dict[str, int] = {}  # file without a time in its name, and its clip's start

    def located(self, rows: Iterable[Row], dataset: str) -> Iterator[Row]:
        """Yield the rows with their files; those that the copy lacks as ClipError (not_found)."""
        for place, values in rows:
            if not isinstance(values, ClipError):
                try:
                    values = self._row(values, dataset)
                except ClipError as error:
                    values = error
            yield place, values

    def _row(self, row: Mapping[str, Any], dataset: str) -> dict[str, Any]:
        start_ms, end_ms = _time_ms(row, "start"), _time_ms(row, "end")
        labels = row.get("labels") or [""]
        fields = {**FIELDS, "id": row["source_id"], "label": labels[0]}
        fields |= {"start_ms": start_ms, "end_ms": end_ms}
        fields |= {"start_s": _seconds(start_ms), "end_s": _seconds(end_ms)}
        file, timed = self._find(fields)
        path = str(self._folder / file)
        found = {name: value for name, value in row.items() if name not in ("start_s", "end_s")}
        found |= {"url": path, "start_ms": start_ms, "end_ms": end_ms}
        found.setdefault("key", default_key(dataset, row["source_id"], start_ms))
        if self._is_cut(path, start_ms, end_ms, timed):
            if not timed and self._taken.setdefault(file, start_ms) != start_ms:
                raise ClipError(Reason.BAD_ROW, f"{file} is the clip of an earlier row")
            times = {"start_ms": 0, "end_ms": end_ms - start_ms}
            found |= {**times, "source_start_ms": str(start_ms)}
        return found

    def _find(self, fields: Mapping[str, Any]) -> tuple[str, bool]:
        """Return the file of a clip, and whether its name holds the clip's time."""
        looked = []
        for pattern in self._patterns:
            try:
                name = pattern.format_map(fields)
            except ValueError:  # {start_s:06d} of half a second
                continue
            looked.append(name)
            if name in self._files:
                return self._files[name], "{start_" in pattern or "{end_" in pattern
        raise ClipError(
            Reason.NOT_FOUND, f"no file {looked[0] if looked else ''}.* in {self._folder}"
        )

    def _is_cut(self, path: str, start_ms: int, end_ms: int, timed: bool) -> bool:
        if self._cut is not None or timed:
            return timed if self._cut is None else self._cut
        from avdata.media import probe

        duration_ms, length_ms = probe(Path(path)).duration_ms, end_ms - start_ms
        cut = duration_ms <= length_ms + SLACK_MS
        whole = duration_ms + TOLERANCE_MS >= end_ms
        if cut == whole and start_ms > 0:
            raise ClipError(
                Reason.BAD_ROW,
                f"{path} lasts {duration_ms / 1000:g} s: is it the clip of {length_ms / 1000:g} s, "
                f"or the video with the clip at {start_ms / 1000:g} s? Say cut=true or cut=false",
            )
        return cut


def _split(media: str) -> tuple[str, str]:
    """Return folder and pattern of `FOLDER` or `FOLDER/{label}/{id}.mp4`; raise SettingsError."""
    parts = media.split("/")
    at = next((n for n, part in enumerate(parts) if "{" in part), len(parts))
    pattern = "/".join(parts[at:])
    stem, ending = os.path.splitext(pattern)
    pattern = stem if ending.lower() in (*ENDINGS, *SOUND_ENDINGS) else pattern
    try:
        pattern.format_map(FIELDS)
        names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
        unknown = [name for name in names if name not in FIELDS]
    except (ValueError, LookupError, AttributeError) as error:
        raise SettingsError(f"media: {media!r} is no pattern: {error!r}") from None
    if unknown or (pattern and "id" not in names):
        known = ", ".join(FIELDS)
        raise SettingsError(f"media: {media!r} must hold {{id}} and may hold {known}")
    return "/".join(parts[:at]) or ("/" if media.startswith("/") else "."), pattern


def _time_ms(row: Mapping[str, Any], side: str) -> int:
    in_ms = row.get(f"{side}_ms")
    return in_ms if isinstance(in_ms, int) else read_time_ms(row[f"{side}_s"], f"{side}_s")


def _seconds(time_ms: int) -> int | float:
    return time_ms / 1000 if time_ms % 1000 else time_ms // 1000
