"""VGGSound lists, in all the forms in which they go round.

vggsound.csv          id,start_s,label,split
test.csv              id_start.mp4,label        (start in seconds, six digits)
*_train.txt           id_startms_endms          (with ",label" or without)
vgg-test.tsv          id_start<TAB>label        (with a header)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.importers.base import cells, each, names_in, split_name, split_of_file
from avdata.manifest.importers.local_copy import CopyOptions
from avdata.manifest.keys import youtube_url
from avdata.manifest.rows import Row
from avdata.strict import setting

_NAME = re.compile(r"([A-Za-z0-9_-]{11})_([0-9]{1,12})(?:_([0-9]{1,12}))?(?:\.mp4)?")
_HEADERS = {"id", "name", "file", "video", "youtube_id", "ytid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(CopyOptions):
    """How VGGSound lists are read."""

    split: str | None = setting(None, "Split of all rows; null: the list's column or file name.")
    categories: str | None = setting(None, "File of class names, one a line: only these stay.")
    exclude: tuple[str, ...] = setting((), "Lists of known-bad clips (or whole video ids).")
    labels_from: str | None = setting(None, "A labelled list that names the classes of this one.")
    clip_s: float = setting(10.0, "Length of a clip whose end is not listed.")


class Segment(NamedTuple):
    """One listed clip."""

    video_id: str
    start_ms: int
    end_ms: int | None
    label: str
    split: str


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per listed clip that is wanted and not known to be bad."""
    wanted = names_in(options.categories)
    bad_clips, bad_videos = _bad(options.exclude)
    known = _labels(options.labels_from)

    def wanted_row(segment: Segment, path: Path) -> dict[str, Any] | None:
        start_ms, end_ms = segment.start_ms, segment.end_ms
        label = segment.label or known.get((segment.video_id, start_ms), "")
        if wanted and not label:
            raise ManifestError(
                f"{path.name} has no label for {segment.video_id}, so categories cannot be chosen; "
                "name a labelled list with the option labels_from"
            )
        if wanted and label not in wanted:
            return None
        if segment.video_id in bad_videos or (segment.video_id, start_ms) in bad_clips:
            return None
        if end_ms is None:
            end_ms = start_ms + round(1000 * options.clip_s)
        split = options.split or segment.split or split_of_file(path)
        return row(segment.video_id, start_ms, end_ms, label, split)

    for path in files:
        yield from each(_segments(path), partial(wanted_row, path=path))


def row(video_id: str, start_ms: int, end_ms: int, label: str, split: str) -> dict[str, Any]:
    """Return the manifest row of one clip of a YouTube video."""
    return {
        "url": youtube_url(video_id),
        "source_id": video_id,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "labels": [label] if label else [],
        "split": split,
    }


def parse_name(name: str) -> tuple[str, int, int | None]:
    """Return video id, start and end in ms of `id_000030` (seconds) or `id_30000_40000` (ms)."""
    match = _NAME.fullmatch(name)
    if not match:
        raise ClipError(Reason.BAD_ROW, f"{name[:60]!r} is neither id_seconds nor id_startms_endms")
    video_id, start, end = match.groups()
    if end is None:
        return video_id, 1000 * int(start), None
    padded = len(start) > 1 and start.startswith("0")  # 000030_000040 counts seconds
    scale = 1000 if padded else 1
    return video_id, scale * int(start), scale * int(end)


def _segments(path: Path) -> Iterator[tuple[str, Segment | ClipError]]:
    for place, record in cells(path):
        if isinstance(record, ClipError):
            yield place, record
        elif not record[0].startswith("#") and record[0].lower() not in _HEADERS:
            try:
                yield place, _segment(record)
            except ClipError as error:
                yield place, error


def _segment(record: list[str]) -> Segment:
    if len(record) == 4:
        video_id, start, label, split = record
        youtube_url(video_id)
        if not re.fullmatch(r"[0-9]{1,6}", start):
            raise ClipError(Reason.BAD_ROW, f"start {start[:60]!r} is not a number of seconds")
        return Segment(video_id, 1000 * int(start), None, label, split_name(split))
    if len(record) > 2:
        raise ClipError(Reason.BAD_ROW, f"has {len(record)} cells; VGGSound lists have 1, 2 or 4")
    label = record[1] if len(record) == 2 else ""
    return Segment(*parse_name(record[0]), label, "")


def _labels(path: str | None) -> dict[tuple[str, int], str]:
    if path is None:
        return {}
    return {
        (segment.video_id, segment.start_ms): segment.label
        for _, segment in _segments(Path(path))
        if isinstance(segment, Segment) and segment.label
    }


def _bad(paths: Sequence[str]) -> tuple[set[tuple[str, int]], set[str]]:
    clips: set[tuple[str, int]] = set()
    videos: set[str] = set()
    for path in paths:
        for place, record in cells(Path(path)):
            try:
                if isinstance(record, ClipError):
                    raise record
                if re.fullmatch(r"[A-Za-z0-9_-]{11}", record[0]):
                    videos.add(record[0])
                else:
                    clips.add(parse_name(record[0])[:2])
            except ClipError as error:
                raise ManifestError(f"{place} in a list to exclude: {error.detail}") from None
    return clips, videos
