"""AudioSet segments: `YTID, start_seconds, end_seconds, "mid,mid"`.

Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avdata.errors import ClipError, ManifestError, Reason
from avdata.manifest.importers.base import cells, each, names_in, read_json, split_of_file
from avdata.manifest.importers.local_copy import CopyOptions
from avdata.manifest.keys import youtube_url
from avdata.manifest.rows import Row
from avdata.strict import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(CopyOptions):
    """How AudioSet segments are read."""

    split: str | None = setting(None, "Split of all rows; null: told by the file's name.")
    labels: str | None = setting(
        None,
        "class_labels_indices.csv or ontology.json, to turn machine ids (/m/09x0r) into names.",
    )
    categories: str | None = setting(
        None, "File of class names (or machine ids), one a line: rows with one of them stay."
    )


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per segment; files that hold the class names may be among `files`."""
    segments = [path for path in files if not _holds_names(path)]
    names: dict[str, str] = {}
    for path in [*([Path(options.labels)] if options.labels else []), *files]:
        if _holds_names(path):
            names |= class_names(path)
    if options.labels and not names:
        raise ManifestError(
            f"{options.labels} names no class; give class_labels_indices.csv or ontology.json"
        )
    wanted = names_in(options.categories)

    def row(record: list[str], split: str) -> dict[str, Any] | None:
        if record[0].startswith("#"):
            return None
        if len(record) != 4:
            raise ClipError(Reason.BAD_ROW, f"has {len(record)} cells instead of 4")
        video_id, start_s, end_s, listed = record
        machine_ids = [mid.strip() for mid in listed.split(",") if mid.strip()]
        labels = [names.get(mid, mid) for mid in machine_ids]
        if wanted and wanted.isdisjoint((*labels, *machine_ids)):
            return None
        return {
            "url": youtube_url(video_id),
            "source_id": video_id,
            "start_s": start_s,
            "end_s": end_s,
            "labels": labels,
            "split": split,
            "audioset_ids": ",".join(machine_ids) if names else "",
        }

    for path in segments:
        split = options.split or split_of_file(path)
        yield from each(cells(path), partial(row, split=split))


def class_names(path: Path) -> dict[str, str]:
    """Return the display name of each machine id in class_labels_indices.csv or ontology.json."""
    if path.suffix == ".json":
        try:
            return {str(entry["id"]): str(entry["name"]) for entry in read_json(path)}
        except (KeyError, TypeError) as error:
            raise ManifestError(f"{path} is no ontology: {error!r}") from None
    records = (record for _, record in cells(path) if isinstance(record, list))
    return {record[1]: record[2] for record in records if len(record) == 3 and record[0].isdigit()}


def _holds_names(path: Path) -> bool:
    return path.suffix == ".json" or "label" in path.stem.lower() or "class_map" in path.stem
