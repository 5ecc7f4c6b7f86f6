"""The Greatest Hits: videos of a drumstick hitting and scratching things, with hit times.

Owens et al., "Visually Indicated Sounds", CVPR 2016. Takes, together, any of

    split lists     *train*.json, *valid*.json, *test*.json, *.txt: one video name each
    hit records     VIDEO/hit_record.json or VIDEO_times.txt in a folder, .tar(.gz) or .zip

Archives are read in place, nothing is extracted.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.importers.base import each, json_entries, lines, media_path, split_of_file
from avdata.manifest.keys import safe_key
from avdata.manifest.rows import MAX_TIME_MS, Row
from avdata.parsing import parse_json
from avdata.strict import setting

MAX_RECORD_BYTES = 4 * 2**20
_VIDEO = re.compile(r"[0-9]{4}(?:-[0-9]{2}){5}(?:-[0-9]+)?")
_RECORD = re.compile(r"(?:.*/)?([^/]+?)(?:/hit_record\.json|_times\.txt)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How The Greatest Hits is read."""

    media: str = setting(
        "{name}_denoised.mp4", "Where the videos lie, relative to the manifest, or absolute."
    )
    events: Literal["all", "labelled"] = setting(
        "all", "labelled: leave out hits whose material and action are both None."
    )
    materials: tuple[str, ...] = setting(
        (), "Only hits on these materials, such as dirt and gravel; empty: on all."
    )
    per: Literal["video", "hit"] = setting(
        "video", "hit: a row for each hit, whose only label is the material."
    )


@dataclass(frozen=True, slots=True)
class Hit:
    """One touch of the drumstick."""

    time_ms: int
    what: str  # material and action, what is None left out
    material: str  # "" where there is none

    @classmethod
    def read(cls, time_s: float, what: str) -> Hit:
        """Return a hit from its entry, such as 2.67 and "dirt hit" or "None scratch"."""
        words = what.split()
        material = words[0] if words and words[0] != "None" else ""
        return cls(round(1000 * time_s), " ".join(w for w in words if w != "None"), material)


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per video (or hit): times in events_ms, what each was in `event_labels`."""
    lists = [path for path in files if _is_list(path)]
    places = [path for path in files if not _is_list(path)]
    splits: dict[str, str] = {}
    for path in lists:
        split = split_of_file(path)
        for place, name in _videos(path):
            if isinstance(name, ClipError):
                yield place, name
            else:
                splits[name] = split
    unseen = set(splits)
    for path in places:
        for name, content in _records(path):
            unseen.discard(name)
            if not lists or name in splits:
                yield from _of_video(f"{path.name}:{name}", name, content, splits, options)
    for name in sorted(unseen):
        if places:
            yield name, ClipError(Reason.BAD_ROW, "is in a split list but has no hit record")
        else:
            yield from _of_video(name, name, b"", splits, options)


def _of_video(
    place: str, name: str, record: bytes, splits: Mapping[str, str], options: Options
) -> Iterator[Row]:
    """Yield the rows of one video; none where it lacks the materials that are asked for."""

    def row(hits: Sequence[Hit]) -> dict[str, Any] | None:
        if options.materials and not hits:
            return None
        return {
            "url": media_path(options.media, name=name),
            "source_id": name,
            "events_ms": [hit.time_ms for hit in hits],
            "labels": sorted({hit.what for hit in hits if hit.what}),
            "split": splits.get(name, ""),
            "event_labels": "|".join(hit.what for hit in hits),
        }

    def row_of_hit(hit: Hit) -> dict[str, Any] | None:
        key = safe_key(f"greatest_hits-{name}-{hit.time_ms:08d}")
        return {**(row([hit]) or {}), "key": key, "labels": [hit.material] if hit.material else []}

    try:
        hits = _chosen(_hits(record), options)
    except ClipError as error:
        yield place, error
        return
    if options.per == "video":
        yield from each([(place, hits)], row)
    else:
        at = {hit.time_ms: hit for hit in reversed(hits)}  # of several at one time, the first
        yield from each([(f"{place}:{t} ms", at[t]) for t in sorted(at)], row_of_hit)


def _chosen(hits: Sequence[Hit], options: Options) -> list[Hit]:
    """Return the hits that the options ask for."""
    return [
        hit
        for hit in hits
        if (hit.what or options.events == "all")
        and (not options.materials or hit.material in options.materials)
    ]


def _is_list(path: Path) -> bool:
    return path.suffix in (".json", ".txt") and not _RECORD.fullmatch(str(path))


def _videos(path: Path) -> Iterator[tuple[str, str | ClipError]]:
    if path.suffix == ".txt":
        yield from ((place, _video(name)) for place, name in lines(path))
        return
    yield from ((place, _video(entry)) for place, entry in json_entries(path))


def _video(name: Any) -> str | ClipError:
    if isinstance(name, ClipError):
        return name
    if isinstance(name, str) and _VIDEO.fullmatch(name):
        return name
    return ClipError(Reason.BAD_ROW, f"{str(name)[:60]!r} is not the name of a video")


def _hits(content: bytes) -> list[Hit]:
    """Read `[[time_s, "material action"], …]` or lines of `time_s material action reaction`."""
    try:
        text = content.decode("utf-8")
        if text.lstrip().startswith("["):
            hits = [(float(time_s), str(what)) for time_s, what in parse_json(text)]
        else:
            words = [line.split() for line in text.splitlines() if line.strip()]
            hits = [(float(line[0]), " ".join(line[1:3])) for line in words]
        if not all(0 <= time_s < MAX_TIME_MS / 1000 for time_s, _ in hits):
            raise ValueError("a time is negative or endless")
        return [Hit.read(time_s, what) for time_s, what in hits]
    except (ValueError, TypeError, OverflowError) as error:
        raise ClipError(Reason.BAD_ROW, f"is not a hit record: {error}") from None


def _records(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield video name and content of every hit record in a folder, archive or single file."""
    try:
        if path.is_dir():
            for file in sorted((*path.rglob("hit_record.json"), *path.rglob("*_times.txt"))):
                yield from _record(str(file), file.read_bytes())
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and _RECORD.fullmatch(member.name):
                        content = tar.extractfile(member)
                        assert content is not None  # it is a regular file
                        yield from _record(member.name, content.read(MAX_RECORD_BYTES))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if _RECORD.fullmatch(name):
                        with archive.open(name) as content:
                            yield from _record(name, content.read(MAX_RECORD_BYTES))
        else:
            yield from _record(str(path), path.read_bytes())
    except (
        OSError,
        EOFError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,  # an encrypted member, or a compression that is not known
    ) as error:
        raise ManifestError(f"{path} is not whole: {error}") from None


def _record(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if match := _RECORD.fullmatch(name):
        yield match[1], content
