"""Rows of a clip table that comes from outside, checked as strictly as a manifest's.

A clip table says where media lie and which bytes of them are read, so whoever can write one could
point at any file. What a step of ours wrote passes as it is.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from avdata.clip import KEY_PATTERN, Clip, Media, Selection, Source, Status
from avdata.errors import ClipError, Reason
from avdata.manifest.keys import KeySet
from avdata.manifest.rows import MAX_TIME_MS, SPLIT, Row, failed_row, resolve_url
from avdata.parsing import parse_json
from avdata.store import Store, is_remote
from avdata.strict import shown

STEPS = ("manifest", "fetch", "trim", "tag", "select", "shard")
AUDIO_FORMATS = ("flac", "wav")
MAX_BYTES, MAX_MEMBER_BYTES = 2**53, 2**32
HOMES_PATH = "homes.json"
_STATUSES = frozenset(map(str, Status))
_TEXTS = ("url", "source_id", "dataset", "split", "licence", "attribution", "reason", "detail")


def media_homes(store: Store) -> tuple[str, ...]:
    """Return the folders in which the media of a run's tables lie: its own, first, and others."""
    own = store.root if store.remote else os.path.abspath(store.root)
    try:
        others = parse_json(store.read_bytes(HOMES_PATH))
    except (OSError, ValueError):
        others = []
    return (own, *(home for home in others if isinstance(home, str) and home))


def add_homes(store: Store, homes: Iterable[str]) -> None:
    """Remember that tables of this run name media in further folders."""
    own, *known = media_homes(store)
    wanted = sorted({*known, *homes} - {own})
    if wanted != known:
        store.write_bytes(HOMES_PATH, json.dumps(wanted).encode())


def clips_of_table(rows: Iterable[Row], homes: Iterable[str]) -> Iterator[Clip]:
    """Yield the clips of a table's rows; those that cannot be trusted as FAILED, in their place.

    Media must lie in one of the folders `homes`; relative paths count from the first of them.
    """
    folders = tuple(homes)
    seen = KeySet()
    for number, values in rows:
        try:
            if isinstance(values, ClipError):
                raise values
            clip = _clip(values, folders)
            if not seen.add(clip.key):
                raise ClipError(Reason.DUPLICATE_KEY, f"key {clip.key!r} is in an earlier row")
        except ClipError as error:
            yield failed_row(number, values, seen, error, "row")
        else:
            yield clip


def _clip(row: Mapping[str, Any], homes: tuple[str, ...]) -> Clip:
    key = row["key"]
    if not isinstance(key, str) or not KEY_PATTERN.fullmatch(key):
        raise ClipError(Reason.BAD_KEY, f"key {shown(key)} is none")
    _must(row["status"] in _STATUSES, "status", row["status"])
    _must(row["step"] in STEPS, "step", row["step"])
    for name in _TEXTS:
        _must(isinstance(row[name], str), name, row[name])
    _must(not row["split"] or SPLIT.fullmatch(row["split"]), "split", row["split"])
    for name in ("events_ms", "labels", "class_scores", "class_scores_max"):
        _must(None not in (row[name] or ()), name, row[name])
    for name in ("attributes", "measures"):
        _must(all(None not in pair for pair in row[name] or ()), name, row[name])
    try:
        clip = Clip.from_row(row)
    except (TypeError, ValueError, KeyError) as error:  # a part of a struct is null
        raise ClipError(Reason.BAD_ROW, f"is no clip: {error}") from None
    if clip.source is not None:
        _check_source(clip.source, homes)
    if clip.media is not None:
        _check_media(clip.media, homes)
    if clip.selection is not None:
        _check_selection(clip.selection, clip.media)
    if clip.status in (Status.ACTIVE, Status.ACCEPTED) or clip.step == "fetch":
        _check_window(clip)
    if clip.status in (Status.ACTIVE, Status.ACCEPTED):
        _must(clip.step != "fetch" or clip.source, "a fetched clip without a source", None)
        cut = clip.step in ("trim", "tag", "select") or clip.status is Status.ACCEPTED
        _must(not cut or clip.media, "a clip without media", None)
    _must(clip.status is not Status.ACCEPTED or clip.selection, "no selection", None)
    return clip


def _check_window(clip: Clip) -> None:
    """Check what a step will open and cut; rows that ended may show what was wrong with them."""
    resolve_url(clip.url, os.curdir)
    for name, time_ms in (("start_ms", clip.start_ms), ("end_ms", clip.end_ms)):
        _must(time_ms is None or 0 <= time_ms <= MAX_TIME_MS, name, time_ms)
    _must(clip.end_ms is None or clip.end_ms > (clip.start_ms or 0), "end_ms", clip.end_ms)
    _must(all(0 <= time_ms <= MAX_TIME_MS for time_ms in clip.events_ms), "events_ms", None)


def _check_source(source: Source, homes: tuple[str, ...]) -> None:
    _check_path(source.path, homes)
    sizes = (source.bytes, source.duration_ms, source.width_px, source.height_px)
    sounds = (source.rotation_deg, source.audio_rate_hz, source.audio_channels)
    _must(all(map(_count, (*sizes, *sounds))), "source", source)
    _must(isinstance(source.fps, float) and math.isfinite(source.fps), "source.fps", source.fps)
    texts = (source.sha256, source.video_codec, source.audio_codec)
    _must(all(isinstance(text, str) for text in texts), "source", source)


def _check_media(media: Media, homes: tuple[str, ...]) -> None:
    _check_path(media.path, homes)
    _must(media.audio_format in AUDIO_FORMATS, "media.audio_format", media.audio_format)
    members = (media.audio, *media.frames, *((media.video,) if media.video else ()))
    for member in members:
        whole = _count(member.offset) and _count(member.bytes) and member.bytes < MAX_MEMBER_BYTES
        _must(whole, "media", member)
    for frame in media.frames:
        _must(isinstance(frame.t_s, float) and 0 <= frame.t_s < math.inf, "media.frames", frame)
    counts = (media.n_samples, media.width_px, media.height_px)
    _must(all(map(_count, counts)) and 0 < (media.sample_rate_hz or 0) < 2**20, "media", media)


def _check_selection(selection: Selection, media: Media | None) -> None:
    frames = len(media.frames) if media else 0
    _must(isinstance(selection.scorer, str), "selection.scorer", selection.scorer)
    _must(len(selection.frame_scores) in (0, frames), "selection.frame_scores", None)
    _must(None not in selection.frame_scores, "selection.frame_scores", None)
    _must(all(_count(i) and i < frames for i in selection.picks), "selection.picks", None)
    sides = (selection.map_height, selection.map_width)
    _must(all(map(_count, sides)), "selection.map_height", sides)
    size = selection.map_height * selection.map_width
    whole = all(len(values) == size and None not in values for values in selection.maps)
    _must(whole, "selection.maps", sides)


def _check_path(path: Any, homes: tuple[str, ...]) -> None:
    """Refuse a path that leads out of the folders in which the media of this table may lie."""
    inside = isinstance(path, str) and path and "\0" not in path and ".." not in path.split("/")
    if inside and (is_remote(path) or os.path.isabs(path)):
        inside = any(path.startswith(home.rstrip("/") + "/") for home in homes)
    if not inside:
        raise ClipError(
            Reason.BAD_ROW,
            f"its media {shown(path)} do not lie in {homes[0]}, the folder of the table; run the "
            "step that wrote them again, on the manifest",
        )


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_BYTES


def _must(holds: Any, what: str, seen: Any) -> None:
    if not holds:
        told = "" if seen is None else f" {shown(seen)}"
        raise ClipError(Reason.BAD_ROW, f"not what a step writes: {what}{told}")
