"""UrbanSound8K: `slice_file_name,fsID,start,end,salience,fold,classID,class`, sounds up to 4 s.

Salamon, Jacoby and Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia 2014.
The ten folds are the official ones, and not to be shuffled: slices of one recording sound alike,
and but for five recordings they share a fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avdata.manifest.importers.base import each, records
from avdata.manifest.importers.sound_files import SoundFiles, SoundOptions
from avdata.manifest.keys import safe_key
from avdata.manifest.rows import Row, read_time_ms

COLUMNS = ("slice_file_name", "fsID", "start", "salience", "fold", "class")
SALIENCE = {"1": "foreground", "2": "background"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SoundOptions):
    """How UrbanSound8K is read."""


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per slice; its split is its fold, fold1 to fold10."""

    def row(record: dict[str, str], sounds: SoundFiles) -> dict[str, Any]:
        name = record["slice_file_name"]
        return {
            "key": safe_key(f"urbansound8k-{Path(name).stem}"),
            "url": sounds.path(name),
            "source_id": record["fsID"],
            "labels": [record["class"]],
            "split": f"fold{int(record['fold'])}",
            "salience": SALIENCE[record["salience"]],
            "source_start_ms": str(read_time_ms(record["start"], "start")),
        }

    for path in files:
        sounds = SoundFiles(options.media, path)
        yield from each(records(path, COLUMNS), partial(row, sounds=sounds))
