"""The Sound2Scene trainer over small shards: end to end, its optimum, stopping, resuming."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from avdata.audio.spec import SOUND2SCENE, AudioSpec
from avdata.config import ShardSettings
from avdata.errors import SettingsError
from stages.engine.checkpoint import ModelCard, load_model, load_weights, save_weights
from stages.engine.errors import CheckpointError
from stages.engine.launch import read_settings
from stages.image_encoder.frozen import load_image_encoder
from stages.image_encoder.space import FeatureSpace
from stages.models import build
from stages.pairs import data as pair_data
from stages.pairs.clips import PairReader, Pairs, read_clips
from stages.pairs.features import Features
from stages.train_sound2scene import Settings, audio_spec, start_from
from tests.stages.programs import ROOT
from tests.stages.tones import (
    ENCODER,
    RATE_HZ,
    TRAIN_CLIPS,
    VAL_CLIPS,
    Program,
    curve,
    made_clips,
    pack_clips,
    save_image_encoder,
)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 clips to train on, 8 held out: 32 x 32 px, 16 kHz, two picked frames each."""
    folder = tmp_path_factory.mktemp("tones")
    return pack_clips(folder, made_clips(), ShardSettings(max_clips=10), RATE_HZ)


@pytest.fixture(scope="session")
def image_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_image_encoder(tmp_path_factory.mktemp("encoder") / "image.safetensors")


@pytest.fixture
def program(tmp_path: Path, shards: Path, image_encoder: Path) -> Program:
    path = tmp_path / "tones.yaml"
    path.write_text(f"""
name: tones
seed: 1
output: {tmp_path / "run"}
stages:
  train_sound2scene:
    train: {{steps: 4, batch_size: 8, log_every: 1, checkpoint_every: 3, evaluate_every: 2,
            workers: 1, shards: {shards}, device: cpu}}
    data: {{image_size_px: 32, input_px: null, val_batch_size: 8}}
    image_encoder: {image_encoder}
    arch: tiny
    width: 4
    duration_s: 0.5
""")
    return Program(path)


# end to end


@pytest.mark.slow
def test_from_the_command_line_to_an_audio_encoder(program: Program) -> None:
    done = program.started("data.frames=picked")
    assert done.returncode == 0, done.stderr
    model, metadata = load_model(program.folder)
    assert metadata["model"] == "audio_encoder"
    assert metadata["audio"]["n_samples"] == 8000
    spec = audio_spec(0.5)
    assert model(torch.zeros(2, *spec.shape)).shape == (2, 32)
    last = curve(program.folder)[-1]
    assert {"loss", "alignment", "r1", "val_loss", "val_alignment", "val_r1"} <= last.keys()
    # The features of both picked frames of each clip, kept beside the run.
    arrays = [np.load(p) for p in (program.folder.parent / "features").glob("*.npy")]
    assert sorted(len(array) for array in arrays) == [2 * VAL_CLIPS, 2 * TRAIN_CLIPS]


def test_cached_features_are_those_of_the_live_encoder(program: Program) -> None:
    """The same curve, although only one of them runs the image encoder in its steps."""
    kept = curve(program.here("data.frames=picked"))
    other = ("data.frames=picked", "data.image_features=live")
    live = curve(program.here(*other, output=program.pipeline.parent / "live"))
    for cached_line, live_line in zip(kept, live, strict=True):
        assert cached_line == pytest.approx(live_line, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("loss", ["l_total", "l_nce", "l2"])
def test_one_batch_is_learnt_to_the_optimum(
    loss: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight z^V at right angles.

    l_total: z^A = z^V, all others at √2. l_nce: z^A gains by turning away from the others, until
    its own cosine is √(7/8) and theirs are -√(1/56), √(8/7) apart. l2: 0.
    """
    axes = np.tile(np.eye(8, 32, dtype=np.float32), (TRAIN_CLIPS // 8, 1))
    known = Features(keys=[], values=axes, mirrored=None, digest="", dataset="")
    monkeypatch.setattr(pair_data, "cached_features", lambda *_, **__: known)
    monkeypatch.setattr(pair_data, "PairReader", FirstEight)
    folder = program.here(
        *(f"loss={loss}", "final_relu=false", "lr=0.01", "width=8", "duration_s=0.25"),
        *("train.steps=80", "train.evaluate_every=80", "train.log_every=10"),
    )
    apart = {"l_total": math.sqrt(2), "l_nce": math.sqrt(8 / 7)}
    best = math.log(1 + 7 * math.exp(-apart[loss])) if loss in apart else 0.0
    last = curve(folder)[-1]
    assert best - 1e-6 < last["loss"] < best + 0.08
    assert last["r1"] == 1


class FirstEight(PairReader):
    """Reads the clips 0..7, whatever is asked for."""

    def __call__(self, rows: NDArray[np.int64], epoch: int | None) -> Pairs:
        return PairReader.__call__(self, np.arange(8), epoch)


def test_sounds_find_pictures_of_held_out_videos(program: Program) -> None:
    last = curve(program.here("train.steps=60", "train.evaluate_every=60", "width=8", "lr=0.003"))[
        -1
    ]
    assert last["val_r1"] >= 0.5  # chance is 1 / 8


# stopping and resuming


def test_stops_early_and_keeps_the_best_by_the_held_out_loss(program: Program) -> None:
    options = ("train.patience=2", "train.evaluate_every=1", "train.steps=200", "lr=0.1")
    folder = program.here(*options)
    values = [line["val_loss"] for line in curve(folder)]
    best = int(np.argmin(values))
    assert len(values) == best + 1 + 2 < 200
    metadata, weights = load_weights(folder)
    assert metadata["step"] == best + 1
    kept = load_weights(folder / f"checkpoints/step-{best + 1:08d}/audio_encoder.safetensors")[1]
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_interrupted_training_goes_on_bit_for_bit(program: Program, tmp_path: Path) -> None:
    options = ("data.frames=picked", "train.evaluate_every=5", "train.workers=2")
    whole = program.here(*options, "train.steps=10")
    program.here(*options, "train.steps=5", output=tmp_path / "again")
    again = program.here(*options, "train.steps=10", output=tmp_path / "again")
    assert curve(again) == curve(whole)
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


# which clips, which weights


def test_classes_to_train_on(shards: Path, program: Program, tmp_path: Path) -> None:
    clips = read_clips(str(shards), "train")
    wanted = tmp_path / "classes.txt"
    wanted.write_text("rain\nsnow\n")
    program.here("train.batch_size=4", "data.val_batch_size=4", f"data.classes_file={wanted}")
    settings = pair_data.PairSettings(classes_file=str(wanted), max_classes=3)
    with pytest.raises(SettingsError, match="has 2 labels, max_classes is 3"):
        pair_data.chosen_labels(settings, clips)
    most = pair_data.PairSettings(max_classes=1)
    assert pair_data.chosen_labels(most, clips) == ["rain"]


def test_published_and_own_weights_are_a_start(program: Program, tmp_path: Path) -> None:
    torch.manual_seed(7)
    source = build("audio_encoder", arch="tiny", width=4, out_dim=32)
    names = {"trunk.": "audnet.", "head.0.": "audnet.fc."}
    published = {}
    for name, value in source.state_dict().items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        published[f"module.{names[old]}{name.removeprefix(old)}"] = value
    torch.save(published, tmp_path / "published.pth")
    from_published = program.here(f"init_from={tmp_path / 'published.pth'}", "lr=1.0e-12")
    assert_close(load_weights(from_published)[1], source.state_dict())
    again = program.here(f"init_from={from_published}", "lr=1.0e-12", output=tmp_path / "again")
    assert_close(load_weights(again)[1], source.state_dict())
    with pytest.raises(SystemExit):  # built in another way
        program.here(f"init_from={from_published}", "width=8", output=tmp_path / "other")


# which image encoder


def save_other_encoder(path: Path) -> Path:
    torch.manual_seed(5)
    card = ModelCard(name="image_encoder", settings=ENCODER)
    save_weights(path, build("image_encoder", **ENCODER).state_dict(), card.metadata())
    return path


def test_the_product_names_its_image_encoder(program: Program, image_encoder: Path) -> None:
    metadata, _ = load_weights(program.here("train.steps=2"))
    space = FeatureSpace.of(load_image_encoder(image_encoder), view_px=32)
    assert FeatureSpace.read(metadata, "product") == space


def test_another_image_encoder_is_refused(
    program: Program, image_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a start, and in the middle of a training, where a file may change under its name."""
    eye = tmp_path / "eye.safetensors"
    eye.write_bytes(image_encoder.read_bytes())
    first = program.here(f"image_encoder={eye}", "train.steps=2")
    program.here(f"image_encoder={eye}", f"init_from={first}", output=tmp_path / "same")
    save_other_encoder(eye)
    digests = [
        FeatureSpace.of(load_image_encoder(path), 32).weights[:16] for path in (image_encoder, eye)
    ]
    for overrides, output, words in (
        ((f"init_from={first}",), tmp_path / "other", [str(first), "leave", "init_from out"]),
        ((), None, ["checkpoints/step-00000002/audio_encoder.safetensors", "--fresh"]),
    ):
        with pytest.raises(SystemExit) as stop:
            program.here(f"image_encoder={eye}", *overrides, output=output)
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert "different image encoders" in message
        assert all(word in message for word in [*words, *digests]), message


def test_a_generator_of_other_features_is_warned_of(
    program: Program, image_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start: training goes on, as the generator may be next."""
    product = program.folder.parent / "train_icgan" / "model.safetensors"
    product.parent.mkdir(parents=True)
    own = FeatureSpace.of(load_image_encoder(image_encoder), 32)
    other = save_other_encoder(tmp_path / "other.safetensors")
    spaces = {
        "refuse the two together": FeatureSpace.of(load_image_encoder(other), 32),
        "64 px, this train_sound2scene: 32 px": FeatureSpace.of(
            load_image_encoder(image_encoder), 64
        ),
        "": own,
    }
    for words, space in spaces.items():
        caplog.clear()
        save_weights(product, {}, ModelCard(name="g", features=space.record()).metadata())
        program.here("train.steps=2", output=program.folder.parents[1])
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == bool(words), messages
        assert all(words in message and str(product) in message for message in messages)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare parameters; running statistics move with every batch."""
    for name, value in expected.items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-8)


# bad input


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("image_encoder=/nowhere",), ["/nowhere", "stages.train_image_encoder"]),
        (("data.val_batch_size=9",), ["8 clips are left for val", "data.val_batch_size"]),
        (("train.batch_size=64",), ["32 clips are left for train", "train.batch_size"]),
        (("data.val_batch_size=1",), ["at least 2", "always 0"]),
        (("train.accumulate=2",), ["l_total", "accumulate must be 1"]),
        (("data.flip=true",), ["image_features: live"]),
        (("duration_s=.inf",), ["duration_s must be greater than 0, got inf"]),
        (("weight_decay=.nan",), ["weight_decay must be 0 or more, got nan"]),
        (("duration_s=0.01",), ["duration_s", "shorter than a window"]),
        (("data.frames=mid",), ["hold picked frames", "steps.shard.frames=all"]),
        (("data.classes_file=/nowhere",), ["cannot read classes_file"]),
    ],
)
def test_messages(
    overrides: tuple[str, ...],
    words: list[str],
    program: Program,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        program.here(*overrides)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_shards_of_another_rate(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pack_clips(tmp_path / "slow", made_clips(), ShardSettings(), 8000)
    with pytest.raises(SystemExit):
        program.here(f"train.shards={folder}")
    message = capsys.readouterr().err
    assert "16000 Hz" in message
    assert "8000 Hz" in message
    assert "steps.trim.sample_rate_hz=16000" in message


def test_without_a_val_split(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pack_clips(tmp_path / "all", made_clips(with_val=False), ShardSettings(), RATE_HZ)
    with pytest.raises(SystemExit):
        program.here(f"train.shards={folder}")
    assert "data.held_out_share=0.1" in capsys.readouterr().err
    program.here(f"train.shards={folder}", "data.held_out_share=0.3", "data.val_batch_size=4")
    assert (program.folder / "model.safetensors").exists()


def test_durations_have_the_columns_of_the_paper() -> None:
    assert [audio_spec(s).shape[2] for s in (1, 5, 10)] == [98, 500, 1004]
    assert audio_spec(10.0) is SOUND2SCENE
    assert isinstance(audio_spec(5), AudioSpec)


def test_the_pipeline_file_is_the_paper() -> None:
    path = ROOT / "pipelines/vggsound_sound2scene.yaml"
    _, settings = read_settings(str(path), [], "train_sound2scene", Settings)
    assert (settings.lr, settings.weight_decay, settings.duration_s) == (1e-3, 1e-5, 10)
    assert (settings.train.batch_size, settings.train.epochs) == (64, 50)
    spectrogram = audio_spec(settings.duration_s).shape
    assert spectrogram == (1, 257, 1004)
    model = build("audio_encoder", arch=settings.arch, head=settings.head)
    assert sum(p.numel() for p in model.parameters()) == 12_220_864
    assert settings.data.held_out_share is not None  # its list has no val split


# several processes


@pytest.mark.slow
def test_torchrun(program: Program, tmp_path: Path) -> None:
    """Losses are of batches of 8, not of 4: near chance ln 8 at first, and not ln 4."""
    done = program.started("train.steps=2", "lr=1.0e-6", processes=2)
    assert done.returncode == 0, done.stderr
    two = curve(program.folder)
    one = curve(program.here("train.steps=2", "lr=1.0e-6", output=tmp_path / "one"))
    for both, alone in zip(two, one, strict=True):
        assert both["loss"] == pytest.approx(alone["loss"], rel=0.03)  # batch norm is per rank
    assert two[-1]["val_loss"] == pytest.approx(one[-1]["val_loss"], rel=0.03)


def test_weights_to_start_from_that_are_incomplete(tmp_path: Path, image_encoder: Path) -> None:
    architecture = {"arch": "tiny", "width": 4, "out_dim": 8}
    spec, path = audio_spec(1.0), tmp_path / "ear.safetensors"
    card = ModelCard(name="audio_encoder", settings=architecture, audio=spec)
    save_weights(path, {}, card.metadata())
    space = FeatureSpace.of(load_image_encoder(image_encoder), 32)
    with pytest.raises(CheckpointError, match="does not fit the model it names"):
        start_from(build("audio_encoder", **architecture), str(path), architecture, spec, space)
