"""Inception's fine-tuning: its loss against torch, its start, and that evaluation takes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdata.config import ShardSettings
from avdata.store import Store
from stages.engine.checkpoint import load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.judges.inception import InceptionFeatures
from stages.nn.inception import InceptionV3
from stages.train_inception import Settings, classification, enlarged, train
from tests.shard_factory import Made, pack, write_table

NAME = "train_inception"


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A pipeline over 8 clips to train on and 4 to test; odd ones are of rain and wind."""
    store = Store(str(tmp_path / "made"))
    clips = [Made(n, split="train" if n < 8 else "test", n_samples=100) for n in range(12)]
    pack(store, [write_table(store, "part", clips)], ShardSettings(splits={"train": 1.0}))
    path = tmp_path / "inception.yaml"
    path.write_text(f"""
name: inception
output: {tmp_path / "run"}
stages:
  {NAME}:
    train: {{steps: 2, batch_size: 4, log_every: 1, shards: {tmp_path / "made"}, device: cpu}}
    start: nothing
    source_px: 32
    input_px: 75
    warmup_steps: 0
    held_out: test
""")
    return path


def run_here(pipeline: Path, *overrides: str) -> Path:
    words = [str(pipeline)]
    for text in overrides:
        words += ["--set", f"stages.{NAME}.{text}"]
    launch(NAME, Settings, train, words)
    return pipeline.parent / "run/stages" / NAME


def test_loss_is_torchs_where_every_clip_has_a_class() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 5), torch.eye(5)[torch.tensor([0, 1, 2, 3, 4, 0])]
    targets[5] = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0])
    found = classification(logits, targets, 0.1)
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, targets, label_smoothing=0.1))


def test_clips_without_a_class_teach_nothing_and_count_as_wrong() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    found = classification(logits, targets, 0.1)
    assert found["top1"].item() == pytest.approx(1 / 3)
    found["loss"].backward()
    assert logits.grad is not None
    assert logits.grad[2].abs().max() == 0
    assert logits.grad[:2].abs().min() > 0


def test_pictures_are_enlarged_within_their_range() -> None:
    pictures = torch.where(torch.rand(2, 3, 32, 32) > 0.5, 1.0, -1.0)
    seen = enlarged(pictures, 75)
    assert seen.shape == (2, 3, 75, 75)
    assert seen.abs().max() <= 1
    assert enlarged(pictures, 32) is pictures


@pytest.mark.slow
def test_evaluation_takes_what_was_trained(pipeline: Path) -> None:
    folder = run_here(pipeline)
    lines = read_metrics(folder)
    assert {"val_loss", "val_top1"} <= lines[-1].keys()
    assert json.loads((folder / "classes.json").read_text())["names"] == ["rain", "wind"]
    extractor = InceptionFeatures.load(folder)
    assert extractor.has_head
    features = extractor.pictures([np.zeros((299, 299, 3), np.uint8)])
    assert features.shape == (1, 2048)
    assert extractor.logits(features).shape == (1, 2)


@pytest.mark.slow
def test_it_starts_from_given_weights_with_a_head_of_its_own(
    pipeline: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    given = InceptionV3(n_classes=7).state_dict()
    torch.save(given, tmp_path / "pt_inception.pth")
    folder = run_here(
        pipeline,
        *("start=fid", f"weights={tmp_path / 'pt_inception.pth'}", "train.steps=1", "lr=0"),
    )
    found = load_weights(folder)[1]
    for name in ("Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch1x1.bn.bias"):
        assert torch.equal(found[name], given[name])
    assert found["fc.weight"].shape == (2, 2048)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("input_px=64", "needs input_px of 75 or more"),
        ("min_area=0", "min_area must be greater than 0"),
        ("lr=.nan", "lr must be 0 or more, got nan"),
        ("source_px=299", "the shards in"),
        ("min_clips=100", "a classifier needs two or more"),
        ("weights=/nowhere.pth", "does not exist"),
    ],
)
def test_settings_that_cannot_be_met(
    pipeline: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_here(pipeline, override, "start=fid")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
