"""What all tests of the training half share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from avdata.config import ShardSettings
from avdata.store import Store
from tests.shard_factory import Made, pack, write_table

TRAIN_CLIPS, TEST_CLIPS = 22, 7


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads, and sums then depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _still_one_thread() -> Iterator[None]:
    """Lightning Fabric changes their number where a distributed strategy is asked for."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with 22 clips to train on, 7 to test: 32 x 32 px, 8000 Hz."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(str(folder))
    clips = [
        Made(n, split="train" if n < TRAIN_CLIPS else "test")
        for n in range(TRAIN_CLIPS + TEST_CLIPS)
    ]
    settings = ShardSettings(max_clips=8, splits={"train": 1.0})
    pack(store, [write_table(store, "part", clips)], settings)
    return folder
