"""Rows of CSV, TSV and JSONL files, one by one; a broken row never harms the rows around it."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
from typing import IO, Any

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.columns import Columns, Reading
from avdata.manifest.rows import Row
from avdata.parsing import parse_json

MAX_LINE_BYTES = 2**20


class Lines:
    """The lines of a file, decoded and counted; those of an unfinished record can be put back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._again: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self.number = 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        raw = self._again.popleft() if self._again else self._read()
        if not raw:
            raise StopIteration
        self.number += 1
        self._taken.append(raw)
        if len(raw) > MAX_LINE_BYTES:
            raise ClipError(Reason.BAD_ROW, f"is longer than {MAX_LINE_BYTES} bytes")
        try:
            return raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ClipError(
                Reason.BAD_ROW,
                f"is not UTF-8: byte 0x{raw[error.start]:02x} after {raw[: error.start][-20:]!r}; "
                "save the file as UTF-8",
            ) from None

    def _read(self) -> bytes:
        raw = self._file.readline(MAX_LINE_BYTES + 1)
        end = raw
        while len(end) > MAX_LINE_BYTES and not end.endswith(b"\n"):
            end = self._file.readline(MAX_LINE_BYTES + 1)  # skip the rest of an endless line
        return raw

    def mark(self) -> int:
        """Begin a record; return the number of its first line."""
        self._taken.clear()
        return self.number + 1

    def put_back(self) -> None:
        """Hand out all lines of the current record but its first one again."""
        self._again.extendleft(reversed(self._taken[1:]))
        self.number -= max(0, len(self._taken) - 1)


def csv_rows(lines: Lines, path: str, delimiter: str, columns: Columns) -> Iterator[Row]:
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    reading = _header(lines, records, path, columns)
    header = reading.names
    while True:
        number = lines.mark()
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            problem = ClipError(Reason.BAD_ROW, f"is not well-formed CSV: {error}")
        except ClipError as error:
            problem = error
        else:
            if len(cells) == len(header):
                if any(cells):
                    yield from reading.rows(number, cells)
                continue
            if not "".join(cells).strip():
                continue
            problem = ClipError(
                Reason.BAD_ROW, f"has {len(cells)} cells where the header has {len(header)}"
            )
        # An unclosed quote swallows the lines after it: they are read again on their own.
        lines.put_back()
        yield number, problem


def _header(lines: Lines, records: Iterator[list[str]], path: str, columns: Columns) -> Reading:
    try:
        header = next((cells for cells in records if any(cells)), None)
    except (ClipError, csv.Error) as error:
        detail = error.detail if isinstance(error, ClipError) else str(error)
        raise ManifestError(f"the header of {path} cannot be read: {detail}") from None
    if header is None:
        raise ManifestError(f"{path} is empty: a manifest begins with a line of column names")
    return columns.reading([name.strip() for name in header], path)


def jsonl_rows(lines: Lines, columns: Columns) -> Iterator[Row]:
    while True:
        number = lines.mark()
        try:
            line = next(lines)
            if line.strip():
                row = _json_object(line)
                yield from columns.reading(row, None).rows(number, row.values())
        except StopIteration:
            return
        except ClipError as error:
            yield number, error
        except ManifestError as error:  # other lines may have other columns
            yield number, ClipError(Reason.BAD_ROW, str(error))


def _json_object(line: str) -> dict[str, Any]:
    try:
        value = parse_json(line, parse_constant=_refuse_constant)
        if "\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ClipError(Reason.BAD_ROW, f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ClipError(Reason.BAD_ROW, f"is not a JSON object: {line.strip()[:60]!r}")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")
