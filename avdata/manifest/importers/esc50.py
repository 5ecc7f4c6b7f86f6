"""ESC-50: `filename,fold,target,category,esc10,src_file,take`, sounds of 5 s without pictures.

Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015. The five folds
are the official ones; but for four recordings, all takes of one are in one fold.
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
from avdata.manifest.rows import Row
from avdata.strict import setting

ESC10_LICENCE = "CC BY 3.0"
COLUMNS = ("filename", "fold", "category", "esc10", "src_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SoundOptions):
    """How ESC-50 is read."""

    esc10: bool = setting(False, "Only the ten classes of ESC-10, which are freer to use.")


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per sound; its split is its fold, fold1 to fold5."""

    def row(record: dict[str, str], sounds: SoundFiles) -> dict[str, Any] | None:
        name, in_esc10 = record["filename"], record["esc10"].lower() == "true"
        if options.esc10 and not in_esc10:
            return None
        return {
            "key": safe_key(f"esc50-{Path(name).stem}"),
            "url": sounds.path(name),
            "source_id": record["src_file"],
            "labels": [record["category"]],
            "split": f"fold{int(record['fold'])}",
            "esc10": str(in_esc10).lower(),
            **({"licence": ESC10_LICENCE} if in_esc10 else {}),
        }

    for path in files:
        sounds = SoundFiles(options.media, path)
        yield from each(records(path, COLUMNS), partial(row, sounds=sounds))
