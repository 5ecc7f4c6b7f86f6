"""A pipeline file over the shared shards."""

from __future__ import annotations

from pathlib import Path

import pytest


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
