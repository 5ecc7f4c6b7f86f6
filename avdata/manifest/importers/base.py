"""What the importers share: reading lines and cells, turning records into rows, names of splits."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.rows import Row
from avdata.manifest.text_rows import Lines
from avdata.parsing import parse_json

T = TypeVar("T")
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


def each(
    records: Iterable[tuple[str, T | ClipError]], make: Callable[[T], dict[str, Any] | None]
) -> Iterator[Row]:
    """Yield the row that `make` gives for each record; none for None, a ClipError in its place.

    A record that lacks what it should have (KeyError, TypeError, …) is a bad row, too.
    """
    for place, record in records:
        try:
            if isinstance(record, ClipError):
                raise record
            row = make(record)
        except ClipError as error:
            yield place, error
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            yield place, ClipError(Reason.BAD_ROW, f"is no record of this list: {error!r}")
        else:
            if row is not None:
                yield place, row


def lines(path: Path) -> Iterator[tuple[str, str | ClipError]]:
    """Yield the place (`name:line`) and the stripped text of each line that is not blank."""
    try:
        with path.open("rb") as file:
            source = Lines(file)
            while True:
                place = f"{path.name}:{source.mark()}"
                try:
                    text = next(source).strip()
                except StopIteration:
                    return
                except ClipError as error:
                    yield place, error
                    continue
                if text:
                    yield place, text
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None


def cells(path: Path, delimiter: str | None = None) -> Iterator[tuple[str, list[str] | ClipError]]:
    """Yield place and cells of each line; no delimiter: tabs if there are any, else commas."""
    for place, text in lines(path):
        if isinstance(text, ClipError):
            yield place, text
            continue
        between = delimiter or ("\t" if "\t" in text else ",")
        try:
            record = next(csv.reader([text], delimiter=between, skipinitialspace=True))
        except csv.Error as error:
            yield place, ClipError(Reason.BAD_ROW, f"is not well-formed CSV: {error}")
        else:
            yield place, [cell.strip(" ") for cell in record]


def records(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str] | ClipError]]:
    """Yield place and cells, by the names in the first line, of each further line of a CSV.

    Raises ManifestError for a list that lacks one of `columns`.
    """
    header: list[str] | None = None
    for place, record in cells(path, ","):
        if isinstance(record, ClipError):
            yield place, record
        elif header is None:
            header = record
            if lacking := [name for name in columns if name not in header]:
                raise ManifestError(
                    f"{path} has no column {', '.join(lacking)}, only {', '.join(header)[:200]}: "
                    "is it the list of another dataset?"
                )
        elif len(record) != len(header):
            yield (
                place,
                ClipError(
                    Reason.BAD_ROW, f"has {len(record)} cells, the first line has {len(header)}"
                ),
            )
        else:
            yield place, dict(zip(header, record, strict=True))


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ManifestError(f"{path} is not valid JSON: {error}") from None


def json_entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield place and value of each entry of a JSON file that holds a list."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ManifestError(f"{path} must hold a list, got {type(entries).__name__}")
    for number, entry in enumerate(entries, start=1):
        yield f"{path.name}:entry {number}", entry


def names_in(path: str | None) -> frozenset[str]:
    """Return the lines of a file of names (classes, ids); an empty set for None."""
    if path is None:
        return frozenset()
    names = frozenset(text for _, text in lines(Path(path)) if isinstance(text, str))
    if not names:
        raise ManifestError(f"{path} lists no name")
    return names


def split_name(text: str) -> str:
    """Return train, val or test for the names datasets use; other names stay as they are."""
    return _SPLITS.get(text.strip().lower(), text.strip())


def split_of_file(path: Path) -> str:
    """Return the split that a file's name tells (`vggsound_valid.txt`: val), or ""."""
    words = re.split(r"[^a-z]+", path.stem.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")


def media_path(template: str, **parts: str) -> str:
    """Fill a path template such as `videos/{label}/{name}.mp4`; parts may not leave their place."""
    for name, part in parts.items():
        if not part or part in (".", "..") or "/" in part or "\0" in part:
            raise ClipError(Reason.BAD_ROW, f"{name} {part[:60]!r} cannot be part of a path")
        template = template.replace(f"{{{name}}}", part)
    return template
