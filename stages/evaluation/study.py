"""What a user study asks about: some clips' sounds and every system's picture of them, as files.

<folder>/items.jsonl    {"id", "label", "sound", "pictures": {system: path}}, a line for each clip;
                        and "content", the picture that was restyled, if systems do so
<folder>/items/         the sounds (FLAC) and the pictures (PNG)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from avdata.shards.folder import read_ranges
from avdata.store import Store
from stages.evaluation.labelled import Labelled
from stages.pairs.samples import Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ITEMS = "items.jsonl"


def write_items(
    folder: Path,
    test: Labelled,
    samples: Mapping[str, Samples],
    most: int,
    contents: Samples | None = None,
) -> None:
    """Write up to `most` clips, as many of each class; items.jsonl comes last.

    contents: of each clip the picture that all systems started from.
    """
    store, clips = Store(str(folder)), test.clips
    store.delete(ITEMS)
    rows = spread_over_classes(test.classes, most)
    sounds = read_ranges(clips.store, [clips.sounds[row] for row in rows])
    pictures = {name: own.read(rows) for name, own in samples.items()}
    before = None if contents is None else contents.read(rows)
    lines = []
    for number, (row, sound) in enumerate(zip(rows, sounds, strict=True)):
        key = clips.keys[row]
        # Shards hold FLAC or WAV; both begin with their name.
        heard = f"items/{key}{'.flac' if sound[:4] == b'fLaC' else '.wav'}"
        store.write_bytes(heard, sound)
        shown = {
            name: _written(store, f"items/{key}.{name}.png", images[number])
            for name, images in pictures.items()
        }
        item = {"id": key, "label": test.classes[row], "sound": heard, "pictures": shown}
        if before is not None:
            item["content"] = _written(store, f"items/{key}.before.png", before[number])
        lines.append(json.dumps(item, ensure_ascii=False) + "\n")
    if lines:
        store.write_bytes(ITEMS, "".join(lines).encode())


def _written(store: Store, name: str, image: NDArray[np.uint8]) -> str:
    with store.writing(name) as path:
        Image.fromarray(image).save(path, "PNG")
    return name


def spread_over_classes(classes: Sequence[str], most: int) -> list[int]:
    """Return up to `most` rows, one of each class in turn."""
    seen: dict[str, int] = {}
    turns = []
    for row, name in enumerate(classes):
        turns.append((seen.get(name, 0), row))
        seen[name] = seen.get(name, 0) + 1
    return [row for _, row in sorted(turns)[:most]]
