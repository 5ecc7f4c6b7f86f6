"""The StyleGAN2 trainer as a program: end to end, resumed, on two ranks, and what it learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from avdata.config import ShardSettings
from avdata.store import Store
from stages.engine.checkpoint import load_model
from stages.engine.launch import launch
from stages.nn.pictures import as_images
from stages.stylegan2.generator import Generator
from stages.train_stylegan2 import BETAS, Augmentation, PathMean, Settings, lazy_adam, train
from tests import shard_factory
from tests.shard_factory import Made, pack, write_table
from tests.stages.stylegan2.test_published import nvidia
from tests.stages.tell_ranks import weights_of_two_ranks

RED, BLUE = (200, 40, 40), (40, 40, 200)


def coloured(made: Made, frame: int) -> np.ndarray:
    """Even clips are red, odd ones blue."""
    return np.broadcast_to(np.uint8(BLUE if made.number % 2 else RED), (16, 16, 3))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two-colours")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_factory, "picture", coloured)
        store = Store(str(folder))
        clips = [Made(n, split="train", n_samples=100) for n in range(32)]
        pack(store, [write_table(store, "part", clips)], ShardSettings(max_clips=20))
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path) -> Path:
    path = tmp_path / "colours.yaml"
    path.write_text(f"""
name: colours
seed: 1
output: {tmp_path / "run"}
stages:
  train_stylegan2:
    train: {{steps: 8, batch_size: 8, log_every: 1, checkpoint_every: 4, evaluate_every: 4,
            ema_decay: 0.9, shards: {shards}, device: cpu, workers: 0}}
    resolution: 16
    z_dim: 8
    w_dim: 16
    mapping_layers: 2
    base: 128
    most: 8
    r1_every: 2
    path_every: 2
    augment_every: 2
    augment_length: 100
""")
    return path


def begin(pipeline: Path, *overrides: str) -> Path:
    """Train in this process; return the training's folder."""
    changes = [word for o in overrides for word in ("--set", f"stages.train_stylegan2.{o}")]
    launch("train_stylegan2", Settings, train, [str(pipeline), *changes])
    return pipeline.parent / "run/stages/train_stylegan2"


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def strengths(folder: Path) -> float:
    """Return how strong the noise of all layers is together."""
    weights = load_model(folder)[0].state_dict()
    return sum(abs(float(value)) for name, value in weights.items() if "noise_gain" in name)


COVERED = ("noise=false", "cover_steps=4", "cover_weight=1.5", "cover_every=3", "cover_noises=12")


@pytest.mark.parametrize("overrides", [(), COVERED])
def test_trains_resumes_bit_for_bit_and_leaves_a_generator(
    pipeline: Path, overrides: tuple[str, ...]
) -> None:
    begin(pipeline, "train.steps=5", *overrides)
    folder = begin(pipeline, *overrides)
    logged = lines(folder)
    assert {"d_loss", "g_loss", "d_real", "d_fake", "augment_p"} <= logged[-1].keys()
    assert ["r1" in line for line in logged[-4:]] == [False, True, False, True]
    assert ["path_length" in line for line in logged[-4:]] == [False, True, False, True]
    assert ["d_loss" in line for line in logged[:4]] == [not overrides] * 4
    assert all("cover" in line for line in logged[:4]) == bool(overrides)
    assert all("g_cover" in line for line in logged[4:]) == bool(overrides)
    assert (strengths(folder) == 0) == bool(overrides)
    assert Image.open(folder / "samples/step-00000008.png").size == (96, 96)
    model, metadata = load_model(folder)
    assert isinstance(model, Generator)
    assert metadata["averaged"] is True
    assert float(model.mapping.w_mean.abs().sum()) > 0

    elsewhere = pipeline.with_name("whole.yaml")
    elsewhere.write_text(pipeline.read_text().replace("/run\n", "/whole/run\n"))
    elsewhere = elsewhere.rename(pipeline.parent / "whole.yaml")
    (pipeline.parent / "whole").mkdir()
    begin(elsewhere, *overrides)
    whole, _ = load_model(pipeline.parent / "whole/run/stages/train_stylegan2")
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_starts_from_a_published_generator_of_its_size(pipeline: Path) -> None:
    torch.manual_seed(3)
    sizes = {"resolution": 16, "z_dim": 8, "w_dim": 16, "mapping_layers": 2, "base": 128, "most": 8}
    theirs = Generator(**sizes)
    save_file(nvidia(theirs), pipeline.with_name("theirs.safetensors"))
    begun = f"init_from={pipeline.with_name('theirs.safetensors')}"
    model, _ = load_model(begin(pipeline, begun, "lr=1e-9", "train.steps=1"))
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(z).pictures, theirs.eval()(z).pictures, atol=1e-3, rtol=0)
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context():
        begin(pipeline, begun, "most=4", "train.steps=2")


@pytest.mark.slow
def test_two_colours_are_learnt(pipeline: Path) -> None:
    folder = begin(
        pipeline,
        "train.steps=300",
        "train.batch_size=16",
        "lr=0.01",
        "augment_target=null",
        "r1_every=8",
        "path_every=8",
        "train.log_every=50",
        "train.evaluate_every=300",
    )
    model, _ = load_model(folder)
    z = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        colours = as_images(model(z).pictures).mean(axis=(1, 2))  # [32, 3]
    lead = colours[:, 0] - colours[:, 2]  # of red over blue: 160 in one half of the clips, or -160
    assert np.mean(np.abs(lead) > 100) > 0.5
    assert 0.05 < np.mean(lead > 0) < 0.95  # both kinds are made


def test_covering_makes_both_colours_as_they_are(pipeline: Path) -> None:
    steps = ("train.steps=60", "cover_steps=60", "cover_every=10", "cover_noises=64")
    folder = begin(pipeline, *steps, "train.log_every=20", "train.evaluate_every=60")
    model, _ = load_model(folder)
    z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        colours = as_images(model(z).pictures).mean(axis=(1, 2)).astype(int)  # [64, 3]
    for colour in (RED, BLUE):
        assert np.abs(colours - colour).max(axis=1).min() < 30


@pytest.mark.slow
def test_two_ranks_have_the_same_weights(pipeline: Path) -> None:
    first, second = weights_of_two_ranks("train_stylegan2", pipeline)
    assert first
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_mean_path_and_the_augmentation_follow() -> None:
    mean = PathMean(0.25, torch.device("cpu"))
    assert [float(mean.follow(torch.tensor(x))) for x in (4.0, 4.0)] == [1.0, 1.75]
    settings = Settings(augment_every=2, augment_length=640, augment_target=0.5)
    augmentation = Augmentation(settings, torch.device("cpu"))
    for step, sign in enumerate((0.2, 1.0, 1.0, 0.2, 0.1, 0.1), 1):  # means .6, .6 and .1
        augmentation.note(torch.tensor(sign), step)
    assert float(augmentation.p) == pytest.approx(2 * 32 / 640)  # up, up, down by 2 · 32 / 640


def test_a_lazy_pass_counts_as_a_part_of_a_step() -> None:
    optimizer = lazy_adam(torch.nn.Linear(2, 2), Settings(lr=0.01), 4)
    (group,) = optimizer.param_groups[:1]
    assert group["lr"] == pytest.approx(0.01 * 4 / 5)
    assert group["betas"] == (0.0, pytest.approx(BETAS[1] ** 0.8))
