"""Trainings of several networks: two folders of shards, a shared forward pass, several products."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from avdata.config import ShardSettings
from avdata.store import Store
from stages.engine import checkpoint
from stages.engine.checkpoint import load_model, load_weights, read_metadata
from stages.engine.errors import CheckpointError
from stages.engine.launch import launch
from stages.engine.run import Run
from tests.shard_factory import Made, pack, write_table
from tests.stages.toy_runs import curve, folder_of, run_program, same, weights
from tests.stages.toy_style import Ear, Painter, Settings, train

NETWORKS = {"painter": Painter, "ear": Ear}
STYLE = "tests.stages.toy_style"


def build(name: str, **settings: int) -> nn.Module:
    return NETWORKS[name](**settings)


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another folder of shards: 9 clips, so that its epochs end elsewhere."""
    folder = tmp_path_factory.mktemp("contents")
    store = Store(str(folder))
    clips = [Made(n, split="train") for n in range(100, 109)]
    pack(store, [write_table(store, "part", clips)], ShardSettings(splits={"train": 1.0}))
    return folder


@pytest.fixture
def pipeline(pipeline: Path, contents: Path) -> Path:
    text = pipeline.read_text().replace("train_toy:", f"train_toy:\n    content_shards: {contents}")
    pipeline.write_text(text)
    return pipeline


def run_style(pipeline: Path, *overrides: str) -> Path:
    words = [word for o in overrides for word in ("--set", o)]
    launch("train_toy", Settings, train, [str(pipeline), *words])
    return folder_of(pipeline)


def test_several_products_and_what_says_that_they_are_all(pipeline: Path) -> None:
    folder = run_style(pipeline)
    assert json.loads((folder / "complete.json").read_text()) == {"products": ["ear", "painter"]}
    assert sorted(path.name for path in folder.glob("*.safetensors")) == [
        "ear.safetensors",
        "painter.safetensors",
    ]
    for name, network in NETWORKS.items():
        model, metadata = load_model(folder, build, product=name)
        assert type(model) is network
        assert (metadata["model"], metadata["step"]) == (name, 8)
        assert read_metadata(folder, name) == read_metadata(folder / f"{name}.safetensors")
    for product, seen in ((None, ""), ("critic", ", not critic")):
        with pytest.raises(CheckpointError, match=f"made ear, painter{seen}; name one of them: "):
            load_weights(folder, product)


def test_one_forward_pass_serves_all_losses(pipeline: Path) -> None:
    """Also of several micro-batches: 8 steps of 2 go through the painter 16 times."""
    folder = run_style(pipeline, "stages.train_toy.train.accumulate=2")
    assert weights(folder / "checkpoints/step-00000008/painter.safetensors")["passes"] == 16


def test_longer_training_is_not_complete_before_its_end(pipeline: Path) -> None:
    folder = run_style(pipeline, "stages.train_toy.train.steps=2")
    assert (folder / "complete.json").exists()
    killed = run_program(pipeline, module=STYLE, killed_at=3)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "complete.json").exists()
    with pytest.raises(CheckpointError, match="has not finished"):
        load_weights(folder, "ear")


@pytest.mark.parametrize("text", ["{", "[]", '{"products": ["../ear"]}', '{"products": [3]}'])
def test_a_damaged_list_of_products(text: str, tmp_path: Path) -> None:
    (tmp_path / "complete.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"complete\.json is damaged"):
        load_weights(tmp_path, "ear")


def test_folders_of_one_product_load_as_ever(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert checkpoint.weights_file(tmp_path) == tmp_path / "model.safetensors"
    assert checkpoint.weights_file(tmp_path, "model") == tmp_path / "model.safetensors"


@pytest.fixture
def undisturbed(pipeline: Path, tmp_path: Path) -> Path:
    run_style(pipeline, f"output={tmp_path / 'whole'}")
    return tmp_path / "whole" / "stages" / "train_toy"


def test_killed_it_goes_on_exactly(pipeline: Path, undisturbed: Path) -> None:
    """At step 6 of 8: both folders are in another epoch than at the checkpoint of step 3."""
    assert run_program(pipeline, module=STYLE, killed_at=6).returncode == -signal.SIGKILL
    folder = run_style(pipeline)
    assert curve(folder) == curve(undisturbed)
    for name in ("painter", "ear"):
        assert same(load_weights(folder, name), load_weights(undisturbed, name))
    last = Path("checkpoints/step-00000008")
    assert same(*(checkpoint.read_state(f / last) for f in (folder, undisturbed)))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_and_micro_batches_learn_the_same(
    strategy: str, pipeline: Path, undisturbed: Path
) -> None:
    options = ("train.accumulate=2", f"train.strategy={strategy}")
    done = run_program(pipeline, *options, module=STYLE, processes=2)
    assert done.returncode == 0, done.stderr
    folder = folder_of(pipeline)
    for mine, other in zip(curve(folder), curve(undisturbed), strict=True):
        assert mine == pytest.approx(other, rel=1e-4)
    for name in ("painter", "ear"):
        mine, other = (load_weights(f, name)[1] for f in (folder, undisturbed))
        mine.pop("passes", None), other.pop("passes", None)
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_each_folder_and_name_has_clips_in_an_order_of_its_own(
    pipeline: Path, contents: Path, shards: Path
) -> None:
    seen: dict[str, list[str]] = {}

    def look(run: Run[Settings]) -> None:
        for name, folder in (("own", None), ("again", None), ("there", contents)):
            batches = run.batches(name=name, shards=None if folder is None else str(folder))
            seen[name] = [key for _ in range(len(batches)) for key in next(batches).keys]
        plain = run.batches()  # unnamed: in the order of trainings from before names
        seen["plain"] = [key for _ in range(len(plain)) for key in next(plain).keys]

    launch("train_toy", Settings, look, [str(pipeline)])
    assert set(seen["there"]) <= {f"clip{n:04d}" for n in range(100, 109)}
    assert len(seen["there"]) == 8
    assert seen["own"] != seen["again"]
    assert seen["plain"] not in (seen["own"], seen["again"])
    assert len(seen["own"]) == len(set(seen["own"])) == 20
