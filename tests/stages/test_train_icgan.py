"""The IC-GAN trainer as a program: end to end, resumed, and that the feature steers the picture."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from avdata.config import ShardSettings
from avdata.store import Store
from avdata.strict import to_tree
from stages.engine.checkpoint import ModelCard, load_model, load_weights, save_weights
from stages.engine.launch import launch
from stages.image_encoder.frozen import load_image_encoder
from stages.image_encoder.space import FeatureSpace
from stages.losses.diversity import diversity
from stages.models import build
from stages.nn.pictures import as_images, as_pictures
from stages.nn.sphere import unit_norm
from stages.pairs.clips import read_clips
from stages.pairs.features import Features, cached_features
from stages.sound2scene.icgan import Generator
from stages.sound2scene.instances import Instances
from stages.train_icgan import Settings, train
from tests import shard_factory
from tests.shard_factory import Made, pack, write_table
from tests.stages.programs import python
from tests.stages.tell_ranks import weights_of_two_ranks

CLIPS = 48
ENCODER = {"arch": "tiny", "width": 4}
RED, BLUE = (200, 40, 40), (40, 40, 200)


def coloured(made: Made, frame: int) -> np.ndarray:
    """Even clips are reddish, odd ones bluish, with a brightness and a grain of their own."""
    rng = np.random.default_rng(made.number)
    colour = np.array(BLUE if made.number % 2 else RED) + rng.integers(-25, 25)
    grain = rng.integers(-10, 10, (32, 32, 1))
    return (colour + grain).astype(np.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of 32 x 32 px, red or blue, and the weights of an untrained image encoder."""
    folder = tmp_path_factory.mktemp("two-modes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_factory, "picture", coloured)
        store = Store(str(folder))
        clips = [Made(n, split="train", n_samples=100) for n in range(CLIPS)]
        pack(store, [write_table(store, "part", clips)], ShardSettings(max_clips=20))
    torch.manual_seed(0)
    encoder = build("image_encoder", **ENCODER)
    card = ModelCard(name="image_encoder", settings=ENCODER)
    save_weights(folder / "encoder.safetensors", encoder.state_dict(), card.metadata())
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path) -> Path:
    path = tmp_path / "two-modes.yaml"
    path.write_text(f"""
name: two-modes
seed: 1
output: {tmp_path / "run"}
stages:
  train_icgan:
    train: {{steps: 4, batch_size: 8, log_every: 1, checkpoint_every: 2, evaluate_every: 2,
            ema_decay: 0.9, ema_start_step: 1, shards: {shards}, device: cpu}}
    image_encoder: {shards / "encoder.safetensors"}
    encoder_view_px: 32
    encoder_input_px: null
    resolution: 32
    channels: 4
    z_dim: 16
    embed_dim: 16
    attention_px: []
    neighbours: 5
""")
    return path


def run(pipeline: Path, *overrides: str, processes: int = 0) -> subprocess.CompletedProcess[str]:
    starter = ["-m"]
    if processes:
        starter += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    changes = [word for o in overrides for word in ("--set", f"stages.train_icgan.{o}")]
    return python([*starter, "stages.train_icgan", str(pipeline), *changes])


def metrics(pipeline: Path) -> list[dict]:
    lines = (folder_of(pipeline) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def folder_of(pipeline: Path) -> Path:
    return pipeline.parent / "run/stages/train_icgan"


def test_trains_logs_samples_and_leaves_a_generator(pipeline: Path, shards: Path) -> None:
    done = run(pipeline)
    assert done.returncode == 0, done.stderr
    names = {"g_loss", "d_loss", "d_real", "d_fake", "g_grad_norm", "d_grad_norm"}
    for line in metrics(pipeline):
        assert names <= line.keys()
        hinge = line["d_loss"]
        assert hinge >= 2 - line["d_real"] + line["d_fake"] - 1e-4  # E max(0, ·) ≥ max(0, E ·)
    sheet = Image.open(folder_of(pipeline) / "samples/step-00000004.png")
    assert sheet.size == (9 * 32, 8 * 32)
    model, metadata = load_model(folder_of(pipeline))
    assert metadata["averaged"] is True
    space = FeatureSpace.of(load_image_encoder(shards / "encoder.safetensors"), view_px=32)
    assert FeatureSpace.read(metadata, "product") == space
    assert isinstance(model, Generator)
    assert model.feature_dim == model.embed_feature.in_features
    assert set(os.listdir(folder_of(pipeline) / "checkpoints/step-00000004")) == {
        "generator.safetensors",
        "generator.ema.safetensors",
        "discriminator.safetensors",
        "state.pt",
    }


def test_a_resumed_training_ends_with_the_same_weights(pipeline: Path) -> None:
    assert run(pipeline, "train.steps=2").returncode == 0
    assert run(pipeline).returncode == 0
    resumed, _ = load_model(folder_of(pipeline))
    elsewhere = pipeline.with_name("whole.yaml")
    elsewhere.write_text(pipeline.read_text().replace("/run\n", "/whole\n"))
    assert run(elsewhere).returncode == 0
    whole, _ = load_model(pipeline.parent / "whole/stages/train_icgan")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_two_processes_with_accumulation_and_bf16(pipeline: Path) -> None:
    done = run(pipeline, "train.accumulate=2", "train.precision=bf16", processes=2)
    assert done.returncode == 0, done.stderr
    assert all(np.isfinite(line["d_loss"]) for line in metrics(pipeline))


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(pipeline: Path) -> None:
    ranks = weights_of_two_ranks("train_icgan", pipeline)
    assert {name.partition(".")[0] for name in ranks[0]} == {"generator", "discriminator"}
    for name, value in ranks[0].items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, ranks[1][name]), name


def test_variety_is_rewarded_and_logged(pipeline: Path) -> None:
    done = run(pipeline, "diversity_weight=3", "diversity_limit=0.001", "train.batch_size=7")
    assert done.returncode == 0, done.stderr
    # Untrained pictures differ by more than a limit so low.
    assert [line["g_diversity"] for line in metrics(pipeline)] == pytest.approx([0.001] * 4)


@pytest.mark.slow
def test_the_feature_steers_the_colour_and_the_noise_varies_it(
    pipeline: Path, shards: Path
) -> None:
    done = run(
        pipeline,
        *("diversity_weight=10", "diversity_limit=0.3"),
        *("train.steps=150", "train.batch_size=16", "train.evaluate_every=150", "channels=8"),
        *("train.checkpoint_every=150", "train.log_every=50", "g_lr=0.001", "d_lr=0.002"),
    )
    assert done.returncode == 0, done.stderr
    generator, _ = load_model(folder_of(pipeline))
    encoder = load_image_encoder(shards / "encoder.safetensors")
    cache = pipeline.parent / "run/stages/features"
    clips = read_clips(str(shards), "train")
    features = cached_features(cache, clips, encoder, image_size_px=32, mirrored=True)
    h = unit_norm(torch.from_numpy(np.array(features.values)))
    z = torch.randn(CLIPS, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made, others = generator(z, h), generator(z.flip(0), h)
    variety = float(diversity((made, others), (z, z.flip(0)), limit=1))
    assert variety > 0.2  # 0.12 without the reward
    colour = made.mean(dim=(2, 3))  # [N, 3]
    redness = (colour[:, 0] - colour[:, 2]).numpy()
    is_red = np.array([int(key.removeprefix("clip")) % 2 == 0 for key in features.keys])
    assert redness[is_red].mean() > 0.3, redness
    assert redness[~is_red].mean() < -0.3, redness


def test_another_image_encoder_is_noticed(
    pipeline: Path,
    shards: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An audio encoder of another one is warned of; to go on with another one is refused."""
    own = FeatureSpace.of(load_image_encoder(shards / "encoder.safetensors"), view_px=32)
    ear = folder_of(pipeline).parent / "train_sound2scene" / "model.safetensors"
    ear.parent.mkdir(parents=True)
    other = replace(own, weights="0" * 64)
    save_weights(ear, {}, ModelCard(name="audio_encoder", features=other.record()).metadata())
    launch("train_icgan", Settings, train, [str(pipeline)])
    (record,) = caplog.records
    for words in (f"{ear}: 0000000000000000", own.weights[:16], "train train_sound2scene again"):
        assert words in record.getMessage()

    saved = folder_of(pipeline) / "checkpoints/step-00000004/generator.safetensors"
    metadata, weights = load_weights(saved)
    save_weights(saved, weights, {**metadata, "features": to_tree(other)})
    with pytest.raises(SystemExit) as ended:
        launch("train_icgan", Settings, train, [str(pipeline)])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert all(words in message for words in (str(saved), "0000000000000000", "--fresh")), message


# What the networks are shown ---------------------------------------------------------------------


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def some_instances(mirrored: bool) -> Instances:
    """Row n is a picture with n left and 100 + n right; its feature is e_n, mirrored 2 e_(n+1)."""
    pictures = np.zeros((4, 2, 2, 3), np.uint8)
    pictures[:, :, 0] = np.arange(4)[:, None, None]
    pictures[:, :, 1] = 100 + np.arange(4)[:, None, None]
    eye = np.eye(5, dtype=np.float32)
    features = Features(
        keys=list("abcd"),
        values=7 * eye[:4],
        mirrored=2 * eye[1:] if mirrored else None,
        digest="d",
        dataset="s",
    )
    return Instances(pictures, features, np.array([[1, 2], [2, 3], [3, 0], [0, 1]]))


def seen(x: Tensor) -> set[tuple[int, int]]:
    return {(int(i[0, 0, 0]), int(i[0, 1, 0])) for i in as_images(x)}


def test_reals_are_neighbours_of_the_row_in_both_orientations() -> None:
    rows = torch.full((64,), 2)
    assert seen(some_instances(False).reals(rows, rng())) == {(3, 103), (0, 100)}
    both = {(3, 103), (103, 3), (0, 100), (100, 0)}
    assert seen(some_instances(True).reals(rows, rng())) == both


def test_conditions_are_unit_features_of_the_row_or_its_mirror_image() -> None:
    rows = torch.full((64,), 1)
    h = some_instances(True).conditions(rows, rng())
    assert {tuple(v) for v in h.tolist()} == {(0, 1, 0, 0, 0), (0, 0, 1, 0, 0)}
    assert some_instances(False).conditions(rows, rng()).unique(dim=0).tolist() == [[0, 1, 0, 0, 0]]


def test_pictures_and_images_are_each_other_s_inverse() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    x = as_pictures(every, torch.device("cpu"))
    assert (x.min(), x.max()) == (-1, 1)
    np.testing.assert_array_equal(as_images(x), every)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("neighbours=48", "neighbours must be from 1 to 47, as train has 48 pictures, got 48"),
        ("z_dim=15", "z_dim must be a multiple of 4"),
        ("train.strategy=fsdp", "use train.strategy auto or ddp"),
        ("resolution=64", "pictures of 64 px are asked for"),
        ("attention_px=[32]", r"at resolution 32 both networks have blocks that end at [8, 16]"),
        ("image_encoder=null", "train_image_encoder"),
        ("train.batch_size=64", "48 rows are fewer than one batch of 64; lower train.batch_size"),
        ("channels=0", "channels must be greater than 0, got 0"),
        ("encoder_input_px=-1", "encoder_input_px must be greater than 0, got -1"),
        ("d_steps=0", "d_steps must be greater than 0, got 0"),
        ("diversity_weight=-1", "diversity_weight must be 0 or more, got -1"),
        ("g_lr=.nan", "g_lr must be 0 or more, got nan"),
    ],
)
def test_unusable_settings_are_explained(
    pipeline: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(pipeline), "--set", f"stages.train_icgan.{override}"]
    with pytest.raises(SystemExit) as ended:
        launch("train_icgan", Settings, train, arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
