"""CelebV-HQ: face clips of YouTube videos with 83 attributes (celebvhq_info.json).

Zhu et al., "CelebV-HQ: A Large-Scale Video Facial Attributes Dataset", ECCV 2022. The face box
(top, bottom, left, right as shares of the picture) travels in the attribute `bbox` as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avdata.errors import ManifestError
from avdata.manifest.importers.base import each, read_json
from avdata.manifest.importers.local_copy import CopyOptions
from avdata.manifest.keys import safe_key, youtube_url
from avdata.manifest.rows import Row
from avdata.strict import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(CopyOptions):
    """How CelebV-HQ is read."""

    split: str = setting("", "Split of all rows; empty: shard decides, by video.")


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per clip; its labels are the appearances, actions and emotions marked 1."""
    for path in files:
        yield from _rows_of(path, options)


def _rows_of(path: Path, options: Options) -> Iterator[Row]:
    content = read_json(path)
    try:
        clips = dict(content["clips"])
        names = {
            "appearance": list(content["meta_info"]["appearance_mapping"]),
            "action": list(content["meta_info"]["action_mapping"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{path} lacks clips, meta_info.appearance_mapping or meta_info.action_mapping: "
            f"{error!r}"
        ) from None
    records = ((f"{path.name}:{name}", (name, clip)) for name, clip in clips.items())
    return each(records, lambda record: _row(*record, names, options.split))


def _row(
    name: str, clip: Mapping[str, Any], names: Mapping[str, list[str]], split: str
) -> dict[str, Any]:
    attributes = clip["attributes"]
    labels = [
        label
        for kind, mapping in names.items()
        for label, marked in zip(mapping, attributes[kind], strict=False)
        if marked
    ]
    return {
        "key": safe_key(f"celebv_hq-{name}"),
        "url": youtube_url(clip["ytb_id"]),
        "source_id": clip["ytb_id"],
        "start_s": clip["duration"]["start_sec"],
        "end_s": clip["duration"]["end_sec"],
        "labels": [*labels, *_emotions(attributes["emotion"])],
        "split": split,
        "bbox": json.dumps(clip["bbox"]),
    }


def _emotions(emotion: Mapping[str, Any]) -> list[str]:
    labels = emotion["labels"]
    if isinstance(labels, str):
        return [labels]
    return sorted({entry["emotion"] for entry in labels})
