"""What a reader gets that was opened before its folder of shards was packed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avdata.config import ShardSettings
from avdata.errors import ShardError
from avdata.store import Store
from tests.shard_factory import Made, pack, picture, sound, write_table

CLIPS = [Made(n) for n in range(64)]
SETTINGS = ShardSettings(max_clips=16, splits={"train": 1.0})


@dataclass
class Read:
    """One sample as a reader delivered it."""

    key: str
    image: np.ndarray
    audio: np.ndarray


def copy_parts(local: Store, store: Store) -> tuple[str, str]:
    """Make the parts in `store`: a table of 64 accepted clips, and a table of one more."""
    tables = write_table(local, "a", CLIPS), write_table(local, "b", [Made(64)])
    for path in Path(local.full("work")).iterdir():
        if store.root != local.root:
            store.write_bytes(f"work/{path.name}", path.read_bytes())
    return tables


def count(numbers: Iterable[int], read: Callable[[int], Read]) -> tuple[int, int]:
    """Read samples by number; return how many came, each checked, and how many were refused."""
    right = 0
    refused = []
    for number in numbers:
        try:
            sample = read(number)
        except ShardError as error:
            refused.append(str(error))
            continue
        made = CLIPS[int(sample.key.removeprefix("clip"))]
        assert np.array_equal(sample.audio, sound(made)), sample.key
        assert np.abs(sample.image.astype(int) - picture(made, 1)).max() <= 4, sample.key
        right += 1
    assert all("packed again since this folder was opened; open it anew" in r for r in refused)
    return right, len(refused)


AGAIN: dict[str, Callable[[Store, tuple[str, str]], object]] = {
    "the same": lambda store, tables: pack(store, tables[:1], SETTINGS),
    "another seed": lambda store, tables: pack(store, tables[:1], SETTINGS, seed=1),
    "one more clip": lambda store, tables: pack(store, tables, SETTINGS),
}
"""Ways to pack again, and what they do."""
