"""Into the Wild: hiking videos with flags for snow, forest and rain (metadata.xlsx, or as csv).

Li et al., "Learning Visual Styles from Audio-Visual Associations", ECCV 2022. Some ids in the
published table carry the tabs and cells of a bad paste; the id is what stands before the first tab.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avdata.errors import ClipError, ManifestError
from avdata.manifest.importers.base import lines
from avdata.manifest.keys import youtube_url
from avdata.manifest.rows import Row
from avdata.strict import setting

FLAGS = ("Snow", "Forest", "Rain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the metadata is read."""

    split: str = setting("", "Split of all rows; empty: shard decides, by video.")


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per video: labels snow, forest, rain; its minutes in `duration_min`."""
    for path in files:
        header: list[str] | None = None
        for place, record in _xlsx(path) if path.suffix.lower() == ".xlsx" else _csv(path):
            if isinstance(record, ClipError):
                yield place, record
                continue
            if header is None:
                header = [cell.strip() for cell in record]
                if missing := {"ID", *FLAGS} - set(header):
                    raise ManifestError(
                        f"{path} lacks the columns {sorted(missing)}; it has {header}"
                    )
                continue
            values = dict(zip(header, record, strict=False))
            video_id = values["ID"].partition("\t")[0].strip()
            try:
                url = youtube_url(video_id)
            except ClipError as error:
                yield place, error
                continue
            yield (
                place,
                {
                    "url": url,
                    "source_id": video_id,
                    "labels": [
                        flag.lower() for flag in FLAGS if values.get(flag, "") not in ("", "0")
                    ],
                    "split": options.split,
                    "duration_min": values.get("Duration", ""),
                },
            )


def _csv(path: Path) -> Iterator[tuple[str, list[str] | ClipError]]:
    for place, text in lines(path):
        yield place, text if isinstance(text, ClipError) else next(csv.reader([text]))


def _xlsx(path: Path) -> Iterator[tuple[str, list[str] | ClipError]]:
    import zipfile

    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ManifestError(f"{path} is not an Excel workbook: {error}") from None
    try:
        for number, record in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            if any(cell is not None for cell in record):
                yield f"{path.name}:{number}", [_text(cell) for cell in record]
    finally:
        book.close()


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
