"""VGG-SS: VGGSound test clips with boxes around what sounds, for scoring localisation.

Chen et al., "Localizing Visual Sounds the Hard Way", CVPR 2021. The boxes (x1, y1, x2, y2 as shares
of width and height, on the middle frame) travel in the attribute `bbox` as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avdata.manifest.importers.base import each, json_entries
from avdata.manifest.importers.local_copy import CopyOptions
from avdata.manifest.importers.vggsound import parse_name, row
from avdata.manifest.rows import Row
from avdata.strict import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(CopyOptions):
    """How VGG-SS is read."""

    split: str = setting("test", "Split of all rows.")
    clip_s: float = setting(10.0, "Length of a clip.")


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per annotated clip."""

    def row_of(entry: Mapping[str, Any]) -> dict[str, Any]:
        video_id, start_ms, _ = parse_name(entry["file"])
        end_ms = start_ms + round(1000 * options.clip_s)
        values = row(video_id, start_ms, end_ms, entry["class"], options.split)
        return {**values, "bbox": json.dumps(entry["bbox"])}

    for path in files:
        yield from each(json_entries(path), row_of)
