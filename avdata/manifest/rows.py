"""From one row of any table to a `Clip`: types, defaults, keys, and what is refused.

Nothing in a row is trusted: keys cannot leave a folder, and a URL is http(s) or a local path.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from avdata.clip import KEY_PATTERN, MANIFEST_COLUMNS, Clip, one_line
from avdata.errors import ClipError, Reason
from avdata.manifest.keys import KeySet, default_key, default_source_id, safe_key, youtube_url
from avdata.parsing import parse_json
from avdata.strict import shown

Row = tuple["int | str", "dict[str, Any] | ClipError"]
"""A row's number (or place, such as `list.csv:17`), and its values or why it cannot be read."""

KNOWN_COLUMNS = frozenset((*MANIFEST_COLUMNS, "start_s", "end_s", "attributes"))
MAX_CELL_CHARS = 131_072
MAX_TIME_MS = 10**12  # about 31 years: larger values are typing errors

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
SPLIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,39}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|subfile,", re.IGNORECASE)
_HTTP = re.compile(r"https?://[^\x00-\x20\x7f/?#\\]+[^\x00-\x20\x7f]*", re.IGNORECASE)
_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]*)?)")
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def clip_from_row(row: Mapping[str, Any], base: str) -> Clip:
    """Return the clip of one row; relative paths are resolved against the folder `base`.

    `row` maps column names to text (CSV) or to typed values (JSONL, Parquet); None and "" mean
    absent. Raises ClipError: BAD_ROW, BAD_KEY or BAD_URL.
    """
    written = _text(row, "url")
    if _YOUTUBE_ID.fullmatch(written) and not os.path.lexists(os.path.join(base, written)):
        written = youtube_url(written)
    url = resolve_url(written, base)
    source_id = _text(row, "source_id") or default_source_id(written)
    dataset = _text(row, "dataset")
    start_ms = _time_ms(row, "start_ms", "start_s")
    end_ms = _time_ms(row, "end_ms", "end_s")
    if end_ms is not None and end_ms <= (start_ms or 0):
        raise ClipError(
            Reason.BAD_ROW, f"the window ends at {end_ms} ms, before or at its start {start_ms} ms"
        )
    split = _text(row, "split")
    if split and not SPLIT.fullmatch(split):
        raise ClipError(Reason.BAD_ROW, f"split {split[:60]!r}: letters, digits, '-', '_' only")
    key = _text(row, "key")
    if not key:
        key = default_key(dataset, source_id, start_ms)
    elif not KEY_PATTERN.fullmatch(key):
        raise ClipError(
            Reason.BAD_KEY,
            f"key {key[:60]!r} must be 1 to 160 letters, digits, '-' or '_', not starting with '-'",
        )
    return Clip(
        key=key,
        url=url,
        source_id=source_id,
        dataset=dataset,
        start_ms=start_ms,
        end_ms=end_ms,
        events_ms=_events(row.get("events_ms")),
        split=split,
        labels=_labels(row.get("labels")),
        licence=_text(row, "licence"),
        attribution=_text(row, "attribution"),
        attributes=_attributes(row),
    )


def clips_from(
    rows: Iterable[Row], base: str, seen: KeySet, *, place: str = "line"
) -> Iterator[Clip]:
    """Turn rows into clips; bad rows and repeated keys come out as FAILED clips, in their place.

    `seen` remembers the keys; `place` says what a row's number counts.
    """
    for number, values in rows:
        try:
            if isinstance(values, ClipError):
                raise values
            clip = clip_from_row(values, base)
            if not seen.add(clip.key):
                raise ClipError(
                    Reason.DUPLICATE_KEY,
                    f"key {clip.key!r} is taken by an earlier row; give each row its own key",
                )
        except ClipError as error:
            yield failed_row(number, values, seen, error, place)
        else:
            yield clip


def failed_row(
    number: int | str, values: Any, seen: KeySet, error: ClipError, place: str = "line"
) -> Clip:
    """Return the FAILED clip that stands for a row, under a key of its own, with its place."""
    where = f"{place} {number}" if isinstance(number, int) else number
    located = ClipError(error.reason, f"{where}: {error.detail}")
    key = stem = f"line-{number:07d}" if isinstance(number, int) else safe_key(f"line-{number}")
    again = 1
    while not seen.add(key):
        again += 1
        key = f"{stem}-{again}"
    row = values if isinstance(values, dict) else {}
    url = row.get("url")
    clip = Clip(key=key, url=one_line(url) if isinstance(url, str) else "", source_id=key)
    return clip.failed("manifest", located)


def resolve_url(text: str, base: str) -> str:
    """Return an http(s) URL as it is, or a local path made absolute; refuse all else (BAD_URL)."""
    stripped = text.strip()
    if not stripped:
        raise ClipError(Reason.BAD_URL, "url is empty")
    if len(text) > 4096:
        raise ClipError(Reason.BAD_URL, f"url is {len(text)} characters long: {text[:60]!r}…")
    if _SCHEME.match(stripped):
        if not _HTTP.fullmatch(stripped):
            raise ClipError(
                Reason.BAD_URL,
                f"{stripped[:100]!r} is neither http(s)://host/… nor a local path "
                "(a local name with a colon is written ./name)",
            )
        return stripped
    if _CONTROL.search(text):
        raise ClipError(Reason.BAD_URL, f"control characters in the path {text[:100]!r}")
    if base.startswith(("http://", "https://")):
        from urllib.parse import urljoin

        return urljoin(base.rstrip("/") + "/", text)
    if os.path.isabs(text):
        return text
    if "://" in base:
        raise ClipError(
            Reason.BAD_URL,
            f"the relative path {text[:100]!r} has no meaning beside the remote manifest in {base}",
        )
    return os.path.normpath(os.path.join(base, text))


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if type(value) is not str:
        raise ClipError(Reason.BAD_ROW, f"{column} must be a text, got {shown(value)}")
    return _within(column, value)


def _within(column: str, value: str) -> str:
    if len(value) > MAX_CELL_CHARS:
        raise ClipError(
            Reason.BAD_ROW,
            f"{column[:60]} holds {len(value)} characters, more than {MAX_CELL_CHARS}",
        )
    return value


def _time_ms(row: Mapping[str, Any], ms_column: str, s_column: str) -> int | None:
    in_ms, in_s = row.get(ms_column), row.get(s_column)
    if _absent(in_s):
        return None if _absent(in_ms) else _whole_ms(in_ms, ms_column)
    if not _absent(in_ms):
        raise ClipError(Reason.BAD_ROW, f"both {ms_column} and {s_column} are given; keep one")
    return read_time_ms(in_s, s_column)


def read_time_ms(value: Any, column: str) -> int:
    """Return milliseconds for seconds (a number, or text of one) or a clock time `h:mm:ss.sss`.

    Raises ClipError (bad_row) for anything else, and for times out of range.
    """
    seconds = value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        seconds = float(value)
    elif isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, rest = clock.groups()
        seconds = 3600 * int(hours or 0) + 60 * int(minutes) + float(rest)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise ClipError(Reason.BAD_ROW, f"{column} must be seconds, got {shown(value)}")
    return _in_range(seconds * 1000, column, value)


def _whole_ms(value: Any, column: str) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value.strip().partition(".")[0])
    if type(value) is int or (type(value) is float and value.is_integer()):
        return _in_range(value, column, value)
    raise ClipError(Reason.BAD_ROW, f"{column} must be whole milliseconds, got {shown(value)}")


def _in_range(value_ms: float, column: str, seen: Any) -> int:
    if 0 <= value_ms <= MAX_TIME_MS:
        return round(value_ms)
    raise ClipError(Reason.BAD_ROW, f"{column} must lie between 0 and 31 years, got {shown(seen)}")


def _absent(value: Any) -> bool:
    return value is None or value == "" or value != value  # NaN: how pandas writes "no number"


def _events(value: Any) -> tuple[int, ...]:
    if _absent(value):
        return ()
    if isinstance(value, str):
        value = [item for item in _within("events_ms", value).split("|") if item.strip()]
    if not isinstance(value, list | tuple):
        raise ClipError(Reason.BAD_ROW, f"events_ms must be a list, got {shown(value)}")
    return tuple(_whole_ms(item, "events_ms") for item in value)


def _labels(value: Any) -> tuple[str, ...]:
    if _absent(value):
        return ()
    if isinstance(value, str):
        value = _within("labels", value).split("|")
    if not isinstance(value, list | tuple) or any(type(item) is not str for item in value):
        raise ClipError(Reason.BAD_ROW, f"labels must be a list of texts, got {shown(value)}")
    return tuple(_within("labels", item) for item in value if item)


def _attributes(row: Mapping[str, Any]) -> dict[str, str]:
    extra = {name: value for name, value in row.items() if name not in KNOWN_COLUMNS}
    nested = row.get("attributes")
    if nested:
        try:
            extra |= dict(parse_json(nested) if isinstance(nested, str) else nested)
        except (ValueError, TypeError):
            raise ClipError(
                Reason.BAD_ROW, f"attributes must be a mapping, got {shown(nested)}"
            ) from None
        if not all(isinstance(name, str) for name in extra):
            raise ClipError(Reason.BAD_ROW, "attributes must have names that are texts")
    return {
        name: _within(name, value if type(value) is str else _plain(value))
        for name, value in extra.items()
        if not (value is None or value == "")
    }


def _plain(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    except RecursionError:
        raise ClipError(Reason.BAD_ROW, f"is nested too deeply: {shown(value)}") from None
    except (TypeError, ValueError):
        return str(value)  # dates, decimals, bytes: what Parquet can hold and JSON cannot
