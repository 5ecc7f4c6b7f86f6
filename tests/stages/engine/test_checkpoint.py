"""Weights files describe themselves, and nothing else is taken for one."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from avdata.audio.spec import AVSTYLE, SOUND2SCENE
from avdata.errors import SettingsError
from avdata.strict import to_tree
from stages.engine.checkpoint import (
    ModelCard,
    load_model,
    load_weights,
    read_metadata,
    read_state,
    require_audio,
    save_weights,
)
from stages.engine.errors import CheckpointError
from stages.engine.rng import rng_state, seed_all, set_rng_state

CARD = ModelCard(name="line", settings={"in_features": 2, "out_features": 3}, audio=SOUND2SCENE)


def build(name: str, **settings: int) -> nn.Module:
    assert name == "line"
    return nn.Linear(**settings)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "line.safetensors"
    save_weights(path, nn.Linear(2, 3).state_dict(), CARD.metadata(step=7))
    return path


def test_a_model_is_built_from_its_file_alone(saved: Path) -> None:
    model, metadata = load_model(saved, build)
    assert metadata["step"] == 7
    assert not model.training
    require_audio(metadata, SOUND2SCENE, str(saved))
    _, stored = load_weights(saved)
    assert torch.equal(model.weight, stored["weight"])


def test_the_same_weights_make_the_same_bytes(tmp_path: Path) -> None:
    weights = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    metadata = ModelCard(name="señor", settings={"text": 'a "quoted" \\ é\n word'}).metadata()
    for n in range(8):  # safetensors orders what a file says of itself at random
        save_weights(tmp_path / f"{n}.safetensors", weights, metadata)
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1
    found, tensors = load_weights(tmp_path / "0.safetensors")
    assert found == metadata
    assert all(torch.equal(tensors[name], value) for name, value in weights.items())


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": 3}, "model is 3"),
        ({"model": None}, "model is None"),
        ({"settings": [1, 2]}, "settings is a list"),
        ({"settings": "width"}, "settings is 'width'"),
        ({"audio": "sound2scene"}, "audio is 'sound2scene'"),
        ({"audio": {}}, "audio is no front-end .*name, sample_rate_hz.* missing"),
        ({"audio": {**to_tree(SOUND2SCENE), "hop": "159"}}, "audio is no front-end .*hop"),
        ({"audio": {**to_tree(SOUND2SCENE), "hop": 0}}, "audio is no front-end .*hop must be"),
        ({"features": [0]}, "features is a list"),
        ({"step": "7"}, "step is '7'"),
        ({"step": True}, "step is True"),
        ({"metrics": [1]}, "metrics is a list"),
        ({"metrics": {"val_loss": "low"}}, "the metric 'val_loss' is 'low'"),
        ({"averaged": 1}, "averaged is 1"),
        ({"stage": {}}, "stage is a dict"),
        ({"version": [1] * 9}, "format version a list"),
        ({"notes": "x" * 2**21}, "characters, at most 1048576 are read"),
    ],
)
def test_metadata_of_the_wrong_kind(change: dict[str, Any], words: str, saved: Path) -> None:
    save_weights(saved, nn.Linear(2, 3).state_dict(), {**CARD.metadata(step=7), **change})
    for read in (load_weights, read_metadata, lambda path: load_model(path, build)):
        with pytest.raises(CheckpointError, match=words) as refused:
            read(saved)
        assert str(saved) in str(refused.value)
        assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"format": ' + '{"a": ' * 50_000, "nested too deep"),
        ('{"step": ' + "9" * 5000 + "}", "does not describe itself"),
        ("\0", "does not describe itself"),
        ('"avdata-checkpoint"', "does not describe itself"),
    ],
)
def test_metadata_that_are_no_description(text: str, words: str, saved: Path) -> None:
    save_file({"weight": torch.zeros(1)}, saved, {"avdata": text})
    with pytest.raises(CheckpointError, match=words):
        read_metadata(saved)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("audio_encoders", {}),
        ("audio_encoder", {"out_dim": "wide"}),
        ("audio_encoder", {"out_dim": 10**18}),
        ("audio_encoder", {"out_dim": -1}),
        ("audio_encoder", {"arch": ["tiny"]}),
        ("audio_encoder", {"self": 1}),
        ("icgan_generator", {"attention_px": 5}),
        ("icgan_generator", {"resolution": {}}),
    ],
)
def test_settings_that_make_no_network(name: str, settings: dict[str, Any], saved: Path) -> None:
    save_weights(saved, {}, ModelCard(name=name, settings=settings).metadata())
    with pytest.raises(CheckpointError, match="describes no network"):
        load_model(saved)


def test_a_state_without_what_resuming_needs(tmp_path: Path) -> None:
    whole: dict[str, Any] = {
        **{"version": 1, "step": 3, "settings": {}, "sharded": False},
        **{"optimizers": {}, "states": {}, "rng": []},
    }
    torch.save(whole, tmp_path / "state.pt")
    assert read_state(tmp_path) == whole
    for name in whole.keys() - {"version"}:
        for broken in ({k: v for k, v in whole.items() if k != name}, {**whole, name: "3"}):
            torch.save(broken, tmp_path / "state.pt")
            with pytest.raises(CheckpointError, match=f"is damaged .{name} is no"):
                read_state(tmp_path)


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
