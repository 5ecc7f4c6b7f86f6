"""Which column of a table is which: other tools' names and units, and what is only nearly right.

A time that is read as something else cuts the wrong clip without a word, so a column that may hold
one is either understood for sure, or refused with the `--map` that says what it is.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avdata.clip import MANIFEST_COLUMNS, child_key, one_line
from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.keys import youtube_url
from avdata.manifest.rows import read_time_ms
from avdata.parsing import parse_json
from avdata.strict import shown

log = logging.getLogger(__name__)

READ_COLUMNS = (*MANIFEST_COLUMNS, "start_s", "end_s", "attributes", "youtube_id", "clips")
"""Every name that a column may be mapped to with a meaning; any other becomes an attribute."""

_STARTS, _ENDS = ("start_ms", "start_s"), ("end_ms", "end_s")
_SECONDS = {"s", "sec", "secs", "second", "seconds"}
_MILLISECONDS = {"ms", "msec", "msecs", "millis", "millisecond", "milliseconds"}
_START_WORDS = {"start", "begin", "beginning", "onset", "from", "since"}
_END_WORDS = {"end", "ending", "stop", "finish", "until", "to"}
_SPAN_WORDS = {"timestamp", "timestamps", "timecode", "timecodes", "span", "spans"}
_SPAN_WORDS |= {"segment", "segments", "interval", "intervals", "offset"}
_LENGTHS = {"duration", "length", "len", "dur"}
_TIME_WORDS = _START_WORDS | _END_WORDS | _SPAN_WORDS | _SECONDS | _MILLISECONDS
_TIME_WORDS |= {"t", "ts", "time", "times", "at", "clip", "clips", "window", "event", "video"}
_TIME_WORDS |= {"frame", "frames", "idx", "index"}
_YOUTUBE_IDS = ("youtubeid", "ytid", "ytbid", "ytvideoid", "youtubevideoid", "videoid")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# A start after ten hours, or a clip of a quarter of an hour: such numbers may be milliseconds.
_LATE_S, _LONG_S = 36_000, 1000

_OFFICIAL_LISTS = (
    (
        "vggsound",
        re.compile(r"[\w-]{11},\d+,.*,(train|test)|[\w-]{11}_\d+(_\d+)?(\.mp4)?([,\t].*)?"),
    ),
    (
        "audioset",
        re.compile(r"# ?(Segments csv created|YTID,|num_ytids=).*|[\w-]{11}, ?\d+\.\d+, ?.*"),
    ),
    ("into_the_wild", re.compile(r"ID,Snow,Forest,Rain.*")),
    ("vas", re.compile(r"[a-z_ ]+/video_\d+")),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a table are read: the names of its columns, and what each row needs more."""

    names: tuple[str, ...]  # the manifest's names, in the order of the table
    plain_times: bool = False  # `start` or `end` are taken for seconds if the numbers allow it
    youtube: bool = False  # the source is a YouTube id
    spans: bool = False  # a row lists several clips

    def rows(self, number: int, cells: Iterable[Any]) -> Iterable[tuple[int, Any]]:
        """Yield the row, or one for each of its clips; what cannot be read as a ClipError."""
        row = dict(zip(self.names, cells, strict=True))
        if self.plain_times or self.youtube or self.spans:
            return self._adapted(number, row)
        return ((number, row),)

    def _adapted(self, number: int, row: dict[str, Any]) -> Iterator[tuple[int, Any]]:
        try:
            if self.plain_times:
                _check_seconds(row)
            if self.youtube:
                row["url"] = _youtube_url(row.pop("youtube_id", None))
            if self.spans:
                for clip in _one_per_span(row):
                    yield number, clip
                return
        except ClipError as error:
            yield number, error
        else:
            yield number, row


class Columns:
    """Reads the columns of tables by the user's mapping and by other tools' habits.

    `mapping` names columns of the table and what each of them is (`{"start": "start_s"}`); any name
    that no manifest column has makes it an attribute. What is understood, and what is not, is said
    once, as warnings of the logger `avdata.manifest.columns`.
    """

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self._mapping = dict(mapping or {})
        self._said: set[str] = set()
        self._known: dict[tuple[str, ...], Reading] = {}

    def reading(self, names: Iterable[str], path: str | None) -> Reading:
        """Return how rows with these columns are read.

        `path` is the table that has them; None: a single row, others may have other columns.

        Raises ManifestError: no column for the source, unnamed or repeated ones, a mapped one that
        is not there, and times that may be meant but cannot be known.
        """
        key = tuple(names)
        if (known := self._known.get(key)) is not None:
            return known
        if len(self._known) > 1000:  # rows of JSONL may each have other columns
            self._known.clear()
        self._known[key] = reading = self._read(key, path)
        return reading

    def _read(self, names: tuple[str, ...], path: str | None) -> Reading:
        told = one_line(", ".join(names), 200)
        absent = self._mapping.keys() - set(names)
        if path and absent:
            raise ManifestError(
                f"{path} has no column {sorted(absent)[0]!r} to map; its columns are: {told}"
            )
        read = [self._mapping.get(name) or _same_but_case(name, names) for name in names]
        taken = self._take_units(names, read)
        youtube = "url" not in read and self._take_youtube(names, read)
        if "" in read or len(set(read)) < len(read):
            raise ManifestError(f"{path} has unnamed or repeated columns: {told}")
        if path and "url" not in read and not youtube:
            raise ManifestError(f"{path} has no column `url`; {_no_url(names)}")
        self._refuse_near_times(names, read, path)
        self._say_others(names, read)
        spans = "clips" in read and not {*_STARTS, *_ENDS} & set(read)
        return Reading(tuple(read), taken, youtube, spans)

    def _take_units(self, names: Sequence[str], read: list[str]) -> bool:
        """Name times whose unit is in their name; tell whether some have none and count as s."""
        plain = False
        for at, name in enumerate(names):
            words = _words(name)
            if name in self._mapping or read[at] in READ_COLUMNS or not words:
                continue
            side = {"start": _STARTS, "end": _ENDS}.get(words[0])
            if side is None or len(words) > 2 or {*side} & set(read):
                continue
            unit = words[-1]
            if len(words) == 1:
                plain = True
                self._say(f"{name} is read as seconds; if it is not: --map {name}={side[0]}")
                read[at] = side[1]
            elif unit in _SECONDS | _MILLISECONDS:
                read[at] = side[0] if unit in _MILLISECONDS else side[1]
                self._say(f"{name} is read as {read[at]}")
        return plain

    def _take_youtube(self, names: Sequence[str], read: list[str]) -> bool:
        if "youtube_id" in read:
            return True
        folded = [re.sub(r"[^a-z]", "", name.lower()) for name in names]
        for wanted in _YOUTUBE_IDS:
            if wanted in folded:
                at = folded.index(wanted)
                if names[at] not in self._mapping:
                    self._say(f"{names[at]} is read as the YouTube id of the source")
                    read[at] = "youtube_id"
                    return True
        return False

    def _refuse_near_times(
        self, names: Sequence[str], read: Sequence[str], path: str | None
    ) -> None:
        for name, as_read in zip(names, read, strict=True):
            if name in self._mapping or as_read in READ_COLUMNS:
                continue
            if meant := _meant_time(name, set(read)):
                place = f"{path}: " if path else ""
                raise ManifestError(
                    f"{place}the column {name!r} may say which part of the source is meant; "
                    f"{meant}. --map {name}={name} keeps it as an attribute without a meaning"
                )

    def _say_others(self, names: Sequence[str], read: Sequence[str]) -> None:
        others = []
        for name, as_read in zip(names, read, strict=True):
            if name in self._mapping or as_read in READ_COLUMNS:
                continue
            free = [column for column in READ_COLUMNS if column not in read]
            near = difflib.get_close_matches(_habit(name), free, n=1, cutoff=0.75)
            hint = f" (did you mean {near[0]}? --map {name}={near[0]})" if near else ""
            others.append(f"{one_line(name, 60)}{hint}")
        if new := [text for text in others if text not in self._said]:
            self._said.update(new)
            log.warning("kept as attributes, without a meaning of their own: %s", ", ".join(new))

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)


def _meant_time(name: str, there: set[str]) -> str:
    """Return what `name` may mean where that time is not given, and what to do; "" if nothing."""
    words = set(_words(name))
    times = words <= _TIME_WORDS
    near = "".join(difflib.get_close_matches(name.lower(), (*_STARTS, *_ENDS), 1, 0.85))
    started, ended = there & {*_STARTS, "clips"}, there & {*_ENDS, "clips"}
    if not started and (near in _STARTS or (times and words & _START_WORDS)):
        return _did_you_mean(name, near or "start_s", "" if near else "start_ms")
    if not ended and (near in _ENDS or (times and words & _END_WORDS)):
        return _did_you_mean(name, near or "end_s", "" if near else "end_ms")
    if not started | ended | there & {"events_ms"} and times and words & _SPAN_WORDS:
        return _did_you_mean(name, "clips", "start_s")
    if started and not ended and words & _LENGTHS and words <= _LENGTHS | _TIME_WORDS:
        return "lengths are not read: give the end, in a column end_s"
    return ""


def _did_you_mean(name: str, column: str, other: str) -> str:
    choice = f" or {name}={other}" if other else ""
    return f"did you mean {column}? --map {name}={column}{choice} reads it so"


def importer_of(line: str) -> str | None:
    """Return the importer that reads an official list, told by its first line; None for others."""
    matches = (name for name, form in _OFFICIAL_LISTS if form.fullmatch(line.strip()))
    return next(matches, None)


def _no_url(names: Sequence[str]) -> str:
    line = ",".join(names)
    if importer := importer_of(line):
        return (
            f"this looks like an official list, which its importer reads: avdata manifest import "
            f"{importer} FILE -o manifest.csv"
        )
    links = [name for name in names if re.search(r"url|uri|link|path|file", name, re.IGNORECASE)]
    hint = f"; is it {links[0]!r}? --map {links[0]}=url" if links else ""
    return f"its columns are: {one_line(', '.join(names), 200)}{hint}"


def _same_but_case(name: str, names: Sequence[str]) -> str:
    folded = name.strip().lower()
    return folded if folded in READ_COLUMNS and folded not in names else name


def _habit(name: str) -> str:
    """Return the manifest's word for what others call so."""
    folded = name.lower()
    habits = {"class": "labels", "category": "labels", "categories": "labels", "tags": "labels"}
    habits |= {"subset": "split", "id": "key", "author": "attribution"}
    return habits.get(folded, folded)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _check_seconds(row: Mapping[str, Any]) -> None:
    """Refuse plain `start` and `end` that may be milliseconds."""
    seen: dict[str, float] = {}
    for column in ("start_s", "end_s"):
        value = row.get(column)
        try:
            seen[column] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            continue  # absent, a clock time, or nothing that rows.py would take
    start_s = seen.get("start_s", 0.0)
    if start_s >= _LATE_S or seen.get("end_s", start_s) - start_s >= _LONG_S:
        raise ClipError(
            Reason.BAD_ROW,
            f"start {shown(row.get('start_s'))} and end {shown(row.get('end_s'))} may be seconds "
            "or milliseconds: say --map start=start_s or start=start_ms, and end alike",
        )


def _youtube_url(video_id: Any) -> str:
    if not isinstance(video_id, str):
        raise ClipError(Reason.BAD_URL, f"no YouTube id: {shown(video_id)}")
    return youtube_url(video_id.strip())


def _one_per_span(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row per clip of `clips`: pairs of seconds or clock times, text of them as JSON."""
    clips = row.pop("clips")
    if isinstance(clips, str) and clips.strip():
        try:
            clips = parse_json(clips.translate(str.maketrans("()'", '[]"')))
        except ValueError:
            clips = ""
    elif not clips:
        yield row  # the whole source
        return
    if not isinstance(clips, list | tuple) or any(
        not isinstance(pair, list | tuple) or len(pair) != 2 for pair in clips
    ):
        raise ClipError(Reason.BAD_ROW, "clips must be a list of pairs [start, end] in seconds")
    for start_s, end_s in clips:
        clip = {**row, "start_s": start_s, "end_s": end_s}
        if isinstance(key := row.get("key"), str) and key:
            clip["key"] = child_key(key, read_time_ms(start_s, "clips"))
        yield clip
