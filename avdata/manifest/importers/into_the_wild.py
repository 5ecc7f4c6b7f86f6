"""Into the Wild: hiking videos with flags for snow, forest and rain (metadata.xlsx, or as csv).

Li et al., "Learning Visual Styles from Audio-Visual Associations", ECCV 2022. Some ids in the
published table carry the tabs and cells of a bad paste; the id is what stands before the first tab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avdata.errors import ClipError, ManifestError
from avdata.manifest.importers.base import cells, each
from avdata.manifest.keys import youtube_url
from avdata.manifest.rows import Row
from avdata.strict import setting, shown

MAX_UNPACKED_BYTES = 64 * 2**20
MAX_ROWS, MAX_COLUMNS = 100_000, 100
FLAGS = ("Snow", "Forest", "Rain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the metadata is read."""

    split: str = setting("", "Split of all rows; empty: shard decides, by video.")


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per video: labels snow, forest, rain; its minutes in `duration_min`."""

    def row(record: list[str], header: list[str]) -> dict[str, Any]:
        values = dict(zip(header, record, strict=False))
        video_id = values["ID"].partition("\t")[0].strip()
        return {
            "url": youtube_url(video_id),
            "source_id": video_id,
            "labels": [flag.lower() for flag in FLAGS if values.get(flag, "") not in ("", "0")],
            "split": options.split,
            "duration_min": values.get("Duration", ""),
        }

    for path in files:
        table = _xlsx(path) if path.suffix.lower() == ".xlsx" else cells(path, ",")
        first = next((record for _, record in table if not isinstance(record, ClipError)), [])
        header = [cell.strip() for cell in first]
        if missing := {"ID", *FLAGS} - set(header):
            raise ManifestError(f"{path} lacks the columns {sorted(missing)}; it has {header[:20]}")
        yield from each(table, partial(row, header=header))


def _xlsx(path: Path) -> Iterator[tuple[str, list[str] | ClipError]]:
    import zipfile

    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise ManifestError(f"{path} unpacks to {unpacked} bytes, more than any such list has")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        sheet.reset_dimensions()  # the size it claims to have is not worth believing
        rows = sheet.iter_rows(max_row=MAX_ROWS, max_col=MAX_COLUMNS, values_only=True)
        for number, record in enumerate(rows, start=1):
            if any(cell is not None for cell in record):
                yield f"{path.name}:{number}", [_text(cell) for cell in record]
        book.close()
    except ManifestError:
        raise
    except Exception as error:  # openpyxl lets through whatever its parts raise
        raise ManifestError(f"{path} is not an Excel workbook: {shown(error)}") from None


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
