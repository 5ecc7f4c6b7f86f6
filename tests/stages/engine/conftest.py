"""Shards, a pipeline file over them, and one thread, so that sums have one order."""

from __future__ import annotations

from pathlib import Path

import pytest

from avdata.config import ShardSettings
from avdata.store import Store
from tests.shard_factory import Made, pack, write_table

TRAIN_CLIPS, TEST_CLIPS = 22, 7


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


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path) -> Path:
    """A pipeline file: 8 steps of 4 clips."""
    path = tmp_path / "toy.yaml"
    path.write_text(f"""
name: toy
seed: 3
output: {tmp_path / "run"}
stages:
  train_toy:
    train: {{steps: 8, batch_size: 4, log_every: 1, checkpoint_every: 3, evaluate_every: 4,
            shards: {shards}, device: cpu}}
""")
    return path
