"""The localizer's trainer: by the command line from shards to a file that finds the source."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from torch.nn import functional as F

from avdata.audio.spec import LOCALIZER
from avdata.audio.spectrograms import features
from avdata.clip import Status
from avdata.config import SelectSettings, load_pipeline
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from avdata.loader import Batch, Loader
from avdata.shards.views import View
from avdata.steps.base import PartContext
from avdata.steps.select import SelectStep
from avdata.store import Store
from avdata.strict import build
from avdata.tables import read_clips
from stages.engine.batches import TensorBatch, to_tensors
from stages.engine.checkpoint import load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.evaluate_localizer import Settings as Scoring
from stages.evaluate_localizer import require_whole_pictures
from stages.localizer.model import Localised
from stages.nn.frontend import Frontend
from stages.train_localizer import Settings, around_frames, classification, train, varied
from tests.stages.programs import python
from tests.stages.sources_in_view import make_run
from tests.stages.tell_ranks import weights_of_two_ranks

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "held_out": "test",
    "arch": "tiny",
    "width": 8,
    "embed_dim": 32,
    "image_px": 32,
    "frames_per_clip": 5,  # of 6, two of which show the source: at least one is seen
    "patch_s": 0.5,
    "lr": 0.01,
    "train": {"steps": 60, "batch_size": 8, "workers": 1, "log_every": 10, "evaluate_every": 60},
}


def pipeline_file(run: Path, **changes: Any) -> Path:
    evaluation = {"truth": str(run / "truth")}
    tree = {
        "name": "made",
        "output": str(run),
        "stages": {"train_localizer": {**TINY, **changes}, "evaluate_localizer": evaluation},
    }
    path = run / "pipeline.yaml"
    path.write_text(json.dumps(tree))
    return path


def program(module: str, pipeline: Path) -> None:
    done = python(["-m", module, str(pipeline)])
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 16 + 16 clips, and the localizer that was taught on the first half."""
    run = make_run(tmp_path_factory.mktemp("trained") / "run", train=16, test=16)
    program("stages.train_localizer", pipeline_file(run))
    return run


def test_the_clips_are_learnt_and_held_out_ones_named(trained: Path) -> None:
    last = read_metrics(trained / "stages" / "train_localizer")[-1]
    assert last["see_accuracy"] > 0.95
    assert last["hear_accuracy"] > 0.95
    assert last["val_see_accuracy"] > 0.9
    assert last["val_hear_accuracy"] > 0.9


def test_it_finds_when_and_where_the_source_is_in_view(trained: Path) -> None:
    """Of six frames two show the source, in one half of the picture; nothing said so."""
    program("stages.evaluate_localizer", trained / "pipeline.yaml")
    results = json.loads((trained / "stages/evaluate_localizer/results.json").read_text())
    shown = results["selection"]["shows_the_source"]
    assert results["selection"]["clips"] == 16
    assert shown["any frame"]["value"] == pytest.approx(1 / 3)
    assert shown["localizer"]["value"] >= 0.9
    assert results["selection"]["localizer_ahead_of"]["mid frame"]["low"] > 0
    overlaps = results["localisation"]["cIoU"]
    assert overlaps["localizer"]["value"] > overlaps["centre of the picture"]["value"] == 0.0


def test_select_takes_the_file_as_it_is(trained: Path) -> None:
    store = Store(str(trained))
    localizer = trained / "stages" / "train_localizer" / "localizer.onnx"
    step = SelectStep(SelectSettings(scorer="localizer", localizer=str(localizer)))
    clips = [
        replace(clip, status=Status.ACTIVE, selection=None)
        for clip in read_clips(store, "select.parquet")
    ]
    selected = step.run(clips, PartContext(store, "out.tar", trained, 0))
    good = 0
    for clip in selected:
        truth = json.loads(store.read_bytes(f"truth/{clip.source_id}.json"))["visible"][0]
        assert clip.selection is not None
        assert clip.selection.map_height == clip.selection.map_width == 4
        assert clip.media is not None
        t_s = 1 + clip.media.frames[clip.selection.picks[0]].t_s
        good += truth["start_s"] - 0.01 <= t_s < truth["end_s"] - 0.01
    assert good >= 0.9 * len(selected)


def test_the_folder_says_what_was_learnt(trained: Path) -> None:
    folder = trained / "stages" / "train_localizer"
    tree = json.loads((folder / "classes.json").read_text())
    assert tree["source"] == "labels"
    assert tree["classes"] == [{"name": "high", "clips": 16}, {"name": "low", "clips": 16}]
    metadata, _ = load_weights(folder)
    assert metadata["model"] == "localizer"
    assert metadata["settings"]["n_classes"] == 2
    assert metadata["audio"]["n_samples"] == 8000


class TestClassification:
    def found(self, logits: torch.Tensor) -> Localised:
        nothing = torch.empty(0)
        return Localised(nothing, nothing, nothing, logits, logits)

    def test_equal_logits_cost_ln_n_each(self) -> None:
        values = classification(self.found(torch.zeros(6, 5)), torch.eye(5)[:3], 0.4)
        assert values["see_loss"].item() == pytest.approx(np.log(5), rel=1e-6)
        assert values["loss"].item() == pytest.approx(2 * np.log(5), rel=1e-6)

    def test_one_frame_is_plain_cross_entropy(self) -> None:
        logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
        labels = torch.tensor([0, 2, 1, 2])
        values = classification(self.found(logits), torch.eye(3)[labels], 0.7)
        torch.testing.assert_close(values["see_loss"], F.cross_entropy(logits, labels))
        right = (logits.argmax(dim=1) == labels).float().mean()
        torch.testing.assert_close(values["hear_accuracy"], right)

    def test_frames_meet_in_a_smooth_maximum(self) -> None:
        rng = np.random.default_rng(1)
        logits = rng.normal(0, 3, (5, 4, 3))  # [B, T, C]
        targets = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 0], [0, 1, 0], [0, 0, 1]])
        s = 0.8
        of_clips = s * (logsumexp(logits / s, axis=1) - np.log(4))
        expected = -(targets * log_softmax(of_clips, axis=1)).sum(axis=1).mean()
        flat = torch.from_numpy(logits.reshape(20, 3)).float()
        values = classification(self.found(flat), torch.from_numpy(targets).float(), s)
        assert values["see_loss"].item() == pytest.approx(expected, rel=1e-5)
        named = of_clips.argmax(axis=1)
        right = [targets[i, named[i]] > 0 for i in range(5)]  # the third has no class
        assert values["see_accuracy"].item() == pytest.approx(np.mean(right))


def tensors(batch: Batch) -> TensorBatch:
    return to_tensors(batch, torch.device("cpu"), IMAGENET_MEAN, IMAGENET_STD)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("clips") / "run", train=4, test=2)


def test_each_frame_comes_with_the_sound_around_it(clips: Path) -> None:
    """As docs/localizer-contract.md says: n_samples from round(t · rate) - n_samples // 2 on."""
    spec = replace(LOCALIZER, name="short", n_samples=9001)
    view = View(image_size_px=32, frame="even", n_frames=6)
    (batch,) = Loader(clips, "train", batch_size=4, view=view)
    made = around_frames(tensors(batch), spec)
    assert made.shape == (4, 6, 9001)
    heard = Frontend(spec)(made.flatten(0, 1)).view(4, 6, *spec.shape)
    assert batch.frame_times_s is not None
    for n in range(4):
        sound = np.float32(batch.audio[n] / 32768)
        around = np.concatenate([np.zeros(4500, np.float32), sound, np.zeros(9001, np.float32)])
        for t in range(6):
            start = round(float(batch.frame_times_s[n, t]) * 16000)
            expected = features(around[start : start + 9001], spec)
            np.testing.assert_allclose(heard[n, t].numpy(), expected, atol=2e-3)


def test_variation_changes_light_by_frame_and_gain_by_clip(clips: Path) -> None:
    (batch,) = Loader(clips, "train", batch_size=4, view=View(frame="even", n_frames=3))
    given = tensors(batch)
    same = varied(given, 0.0, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same.image, given.image)
    assert torch.equal(same.audio, given.audio)
    made = varied(given, 0.3, 6.0, torch.Generator().manual_seed(0))
    contrast = made.image.std(dim=(2, 3, 4)) / given.image.std(dim=(2, 3, 4))  # [B, T]
    assert len(set(contrast.flatten().tolist())) == 12
    assert 0.7 <= contrast.min() < 0.9
    assert 1.1 < contrast.max() <= 1.3
    gain = made.audio.abs().amax(dim=1) / given.audio.abs().amax(dim=1)  # [B]
    torch.testing.assert_close(made.audio, given.audio * gain[:, None], rtol=1e-4, atol=1e-6)
    assert 10 ** (-6 / 20) <= gain.min() < gain.max() <= 10 ** (6 / 20)


@pytest.mark.parametrize(
    ("making", "changes", "message"),
    [
        ({"frames": "picked"}, {}, r"5 frames .* hold 1 at most: .*steps\.shard\.frames=all"),
        ({"rate_hz": 8000}, {}, r"16000 Hz, the shards .* 8000 Hz; pack .*sample_rate_hz=16000"),
        ({"labels": False, "tags": False}, {}, "no clip of split train .* has labels"),
        ({"train": 1}, {}, r"has 1 class\(es\) of at least 1 clips"),
        ({}, {"held_out": "val"}, "no clips in split 'val'.*'test'"),
        ({}, {"image_px": 64}, "pictures of 64 px are asked for, .* hold 32 x 32 px"),
        ({}, {"crop_area": [0.5]}, "crop_area must be two shares"),
        ({}, {"frames_per_clip": 0}, "frames_per_clip must be greater than 0, got 0"),
        ({}, {"crop_area": [0.0, 2.0]}, r"crop_area must be two shares that rise within \(0, 1\]"),
        ({}, {"light": 1.0}, r"light must lie in \[0, 1\)"),
        ({}, {"lr": -1.0}, "lr must be greater than 0, got -1"),
        ({}, {"patch_s": 0.001}, "patch_s: .* shorter than a window"),
        ({}, {"width": -1}, "width must be greater than 0, got -1"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    making: dict[str, Any],
    changes: dict[str, Any],
    message: str,
) -> None:
    run = make_run(tmp_path / "run", **{"train": 8, "test": 2, **making})
    with pytest.raises(SystemExit) as ended:
        launch("train_localizer", Settings, train, [str(pipeline_file(run, **changes))])
    assert ended.value.code == 2
    assert re.search(message, capfd.readouterr().err)


def test_the_real_pipelines_hold_valid_settings() -> None:
    pipeline = load_pipeline(ROOT / "pipelines" / "vggsound_localizer.yaml")
    settings = build(Settings, pipeline.stages["train_localizer"], "vggsound_localizer")
    assert pipeline.steps.shard.frames == "all"
    assert pipeline.steps.trim.frames_per_clip is not None
    assert settings.frames_per_clip <= pipeline.steps.trim.frames_per_clip
    scoring = load_pipeline(ROOT / "pipelines" / "vggss.yaml")
    require_whole_pictures(scoring)
    build(Scoring, scoring.stages["evaluate_localizer"], "vggss")


STEADY = {"light": 0.0, "gain_db": 0.0, "crop_area": [1.0, 1.0], "lr": 1e-6}  # as at the start
FEW = {"steps": 3, "batch_size": 8, "workers": 1, "log_every": 1, "evaluate_every": 3}


def trained_here(run: Path, **train_settings: Any) -> Path:
    """Train a few steps that hardly move the weights, in this process; return the folder."""
    path = pipeline_file(run, **STEADY, train={**FEW, "device": "cpu", **train_settings})
    launch("train_localizer", Settings, train, [str(path), "--fresh"])
    return run / "stages" / "train_localizer"


@pytest.fixture
def short_run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", train=8, test=4)


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_and_count_as_one(short_run: Path) -> None:
    alone = trained_here(short_run)
    one = read_metrics(alone)
    shutil.rmtree(alone)
    ranks = weights_of_two_ranks("train_localizer", short_run / "pipeline.yaml")
    assert len(ranks[0]) > 20
    for name, value in ranks[0].items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, ranks[1][name]), name
    two = read_metrics(alone)
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for name in ("loss", "see_loss", "hear_loss"):  # batch norm sees only the clips of one rank
        means = [np.mean([line[name] for line in lines]) for lines in (two, one)]
        assert means[0] == pytest.approx(means[1], rel=0.2), name
    assert two[-1]["val_loss"] == pytest.approx(one[-1]["val_loss"], rel=0.2)
    assert (alone / "localizer.onnx").is_file()


def test_bf16_is_near_fp32_and_leaves_fp32_weights(short_run: Path) -> None:
    full = read_metrics(trained_here(short_run))
    folder = trained_here(short_run, precision="bf16")
    rounded = read_metrics(folder)
    for one, other in zip(rounded, full, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.03)
    assert any(a["loss"] != b["loss"] for a, b in zip(rounded, full, strict=True))
    weights = load_weights(folder)[1].values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}
    assert (folder / "localizer.onnx").is_file()
