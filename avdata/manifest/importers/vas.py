"""VAS and VEGAS lists: one `class/video_00000` a line, the videos in a folder of one's own.

VEGAS: Zhou et al., "Visual to Sound", CVPR 2018. VAS: Chen et al., "Generating Visually Aligned
Sound from Videos", TIP 2020.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avdata.manifest.importers.base import each, lines, media_path, split_of_file
from avdata.manifest.rows import Row
from avdata.strict import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How VAS and VEGAS lists are read."""

    media: str = setting(
        "videos/{label}/{name}.mp4",
        "Where the videos lie, relative to the manifest, or absolute.",
    )
    split: str | None = setting(None, "Split of all rows; null: told by the file's name.")
    label: str | None = setting(
        None, "Class of lines that name none; null: told by the file's name (dog_train.txt)."
    )


def rows(files: Sequence[Path], options: Options) -> Iterator[Row]:
    """Yield one row per listed video."""

    def row(text: str, path: Path) -> dict[str, Any]:
        label, slash, name = text.rpartition("/")
        if not slash:
            label = options.label or re.split(r"_(?:train|val|valid|test)", path.stem)[0]
        name = name.removesuffix(".mp4")
        return {
            "url": media_path(options.media, label=label, name=name),
            "source_id": f"{label}-{name}",
            "labels": [label],
            "split": options.split or split_of_file(path),
        }

    for path in files:
        yield from each(lines(path), partial(row, path=path))
