"""Weights files describe themselves, and nothing else is taken for one."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from avdata.audio.spec import AVSTYLE, SOUND2SCENE
from avdata.errors import SettingsError
from stages.engine.checkpoint import (
    ModelCard,
    load_model,
    load_weights,
    require_audio,
    save_weights,
)
from stages.engine.errors import CheckpointError
from stages.engine.rng import rng_state, seed_all, set_rng_state


def build(name: str, **settings: int) -> nn.Module:
    assert name == "line"
    return nn.Linear(**settings)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    card = ModelCard(name="line", settings={"in_features": 2, "out_features": 3}, audio=SOUND2SCENE)
    path = tmp_path / "line.safetensors"
    save_weights(path, nn.Linear(2, 3).state_dict(), card.metadata(step=7))
    return path


def test_a_model_is_built_from_its_file_alone(saved: Path) -> None:
    model, metadata = load_model(saved, build)
    assert metadata["step"] == 7
    assert not model.training
    require_audio(metadata, SOUND2SCENE, str(saved))
    _, stored = load_weights(saved)
    assert torch.equal(model.weight, stored["weight"])


def test_another_front_end_is_refused(saved: Path) -> None:
    metadata, _ = load_weights(saved)
    with pytest.raises(SettingsError, match=r'"name": "sound2scene".*not.*"name": "avstyle"'):
        require_audio(metadata, AVSTYLE, "it")
    with pytest.raises(SettingsError, match="trained with the front-end"):
        require_audio(metadata, replace(SOUND2SCENE, hop=160), "it")
    with pytest.raises(SettingsError, match="front-end none"):
        require_audio({**metadata, "audio": None}, SOUND2SCENE, "it")


def test_weights_that_do_not_fit(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(saved, lambda name, **_: nn.Linear(5, 5))


def test_no_weights(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has not finished"):
        load_weights(tmp_path)
    saved.write_bytes(saved.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(saved)
    saved.write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_weights(saved)
    save_file({"weight": torch.zeros(1)}, saved)
    with pytest.raises(CheckpointError, match="does not describe itself"):
        load_weights(saved)
    for header in ("{broken", "[]", '{"format": "avdata-checkpoint", "version": 1}'):
        save_file({"weight": torch.zeros(1)}, saved, {"avdata": header})
        with pytest.raises(CheckpointError, match="does not describe itself"):
            load_weights(saved)
    save_weights(saved, {}, {**ModelCard(name="x").metadata(), "version": 99})
    with pytest.raises(CheckpointError, match="format version 99"):
        load_weights(saved)


def test_all_randomness_comes_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw() -> list[float]:
        return [
            random.gauss(0, 1),
            float(np.random.standard_normal()),
            torch.randn(()).item(),
            torch.randn((), generator=generator).item(),
        ]

    seed_all(0, "here", "rank 0")
    draw()
    torch.save(rng_state(generator), tmp_path / "state.pt")
    expected = [draw() for _ in range(3)]
    set_rng_state(torch.load(tmp_path / "state.pt", weights_only=True), generator)
    assert [draw() for _ in range(3)] == expected


def test_seeds_differ_by_rank() -> None:
    seen = set()
    for key in ("rank 0", "rank 1", "rank 0"):
        seed_all(0, "here", key)
        seen.add((random.random(), float(np.random.random()), torch.rand(()).item()))
    assert len(seen) == 2
