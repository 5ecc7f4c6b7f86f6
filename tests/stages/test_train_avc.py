"""The AVC network: its loss by hand, learning, going on, and its judge on held-out clips."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avdata.audio.spec import AVC
from avdata.clip import Selection, Status
from avdata.errors import AvdataError, SettingsError, WeightsError
from avdata.store import Store
from avdata.tables import write_clips
from stages.engine.checkpoint import load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.judges.avc import TrainedAvc
from stages.judges.table import Wish, open_encoder
from stages.losses.correspondence import avc_loss
from stages.nn.avc import AvcNetwork
from stages.pairs.clips import read_clips
from stages.pairs.samples import frames_of, sounds_of
from stages.train_avc import NAME, Settings, apart, train
from tests.clip_factory import ClipFactory
from tests.shard_factory import pack
from tests.stages.evaluation_run import COLOURS, PITCHES_HZ, RATE_HZ

CLASSES = tuple(COLOURS)
CLIPS = {"train": 8, "val": 4, "test": 6}  # of each class


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of half a second whose colour and pitch go together, of a video each."""
    folder = tmp_path_factory.mktemp("avc") / "made"
    factory, clips, rng = ClipFactory(folder), [], np.random.default_rng(0)
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    for split, count in CLIPS.items():
        for name in CLASSES:
            for n in range(count):
                colour = COLOURS[name] + rng.normal(0, 12, (32, 32, 3))
                tone = 0.3 * np.sin(2 * np.pi * (PITCHES_HZ[name] + 10 * n) * t)
                clips.append(
                    factory.clip(
                        f"{split}-{name}-{n}",
                        [np.uint8(np.clip(colour, 0, 255))],
                        [0.25],
                        tone,
                        rate_hz=RATE_HZ,
                        source_id=f"{split}-{name}-{n}",
                        split=split,
                        labels=(name,),
                        status=Status.ACCEPTED,
                        selection=Selection("mid", (1.0,), (0,)),
                    )
                )
    factory.part()
    write_clips(folder / "table.parquet", clips)
    pack(Store(str(folder)), ["table.parquet"])
    return folder


def run_here(folder: Path, shards: Path, *overrides: str) -> Path:
    path = folder / "avc.yaml"
    path.write_text(f"""
name: avc
output: {folder / "run"}
stages:
  {NAME}:
    train: {{batch_size: 12, log_every: 1, device: cpu, shards: {shards}, workers: 0}}
    width: 4
    dim: 16
    image_px: 32
    warmup_steps: 0
    lr: 3e-3
""")
    words = [str(path)]
    for text in overrides:
        words += ["--set", f"stages.{NAME}.{text}"]
    launch(NAME, Settings, train, words)
    return folder / "run/stages" / NAME


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    return run_here(tmp_path_factory.mktemp("trained"), shards, "train.epochs=20")


# the loss


def test_the_loss_is_the_mean_of_two_cross_entropies() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4, 4))
    wrong = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
    p = 1 / (1 + np.exp(-logits))
    right = -np.log(np.diag(p)).mean()
    other = -np.log(1 - p[wrong]).mean()
    found = avc_loss(torch.tensor(logits), torch.tensor(wrong))
    assert found["loss"].item() == pytest.approx((right + other) / 2)
    hits = ((np.diag(p) > 0.5).mean() + (p[wrong] < 0.5).mean()) / 2
    assert found["accuracy"].item() == pytest.approx(hits)


def test_who_cannot_tell_has_the_loss_of_chance() -> None:
    """All logits 0: ln 2. A batch without a wrong pair: its half is that of chance."""
    wrong = ~torch.eye(5, dtype=torch.bool)
    assert avc_loss(torch.zeros(5, 5), wrong)["loss"].item() == pytest.approx(math.log(2))
    sure = torch.full((3, 3), 50.0, requires_grad=True)
    found = avc_loss(sure, torch.zeros(3, 3, dtype=torch.bool))
    assert found["loss"].item() == pytest.approx(math.log(2) / 2)
    assert found["accuracy"].item() == 0.75
    found["loss"].backward()
    assert sure.grad is not None
    assert not (sure.grad - torch.diag(sure.grad.diagonal())).any()


def test_wrong_are_other_videos_without_a_common_label() -> None:
    sources = ["a", "a", "b", "c"]
    labels = [["rain"], ["snow"], ["rain", "wind"], []]
    wanted = [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]
    assert apart(sources, labels).int().tolist() == wanted
    assert apart(sources, [[]] * 4).int().tolist()[0] == [0, 0, 1, 1]


def test_all_pairs_are_those_one_by_one() -> None:
    torch.manual_seed(0)
    network = AvcNetwork(width=4, dim=8, image_px=32).eval()
    x, s = torch.randn(3, 3, 32, 32), torch.randn(3, *AVC.shape)
    with torch.inference_mode():
        logits = network(x, s)
        v, a = network.pictures(x), network.sounds(s)
        for i in range(3):
            for j in range(3):
                torch.testing.assert_close(logits[i, j], network.logits(v[i], a[j]))
    hidden = network.head[0]
    assert isinstance(hidden, torch.nn.Linear)
    own = torch.cat([v[0], a[1], v[0] * a[1]]) @ hidden.weight.T + hidden.bias
    last = network.head[2]
    torch.testing.assert_close(logits[0, 1], (own.relu() @ last.weight.T + last.bias)[0])


# the training


@pytest.mark.slow
def test_it_learns_what_goes_together(trained: Path, shards: Path) -> None:
    """On clips that it never saw, above chance, and AVC of own sounds above that of others."""
    lines = read_metrics(trained)
    last = [line for line in lines if "val_accuracy" in line][-1]
    assert last["val_accuracy"] > 0.9
    assert last["val_loss"] < math.log(2)
    clips = read_clips(str(shards), "test")
    judge = open_encoder("avc", Wish(device=torch.device("cpu"), weights=str(trained)))
    assert isinstance(judge, TrainedAvc)
    assert "not OpenL3" in judge.description
    rows = range(len(clips))
    v = judge.pictures(frames_of(clips).read(rows))
    a = judge.sounds(sounds_of(clips, RATE_HZ).read(rows))
    own = judge.correspondence(v, a)
    others = [  # of each clip, one of the next class
        next(m for m in rows if clips.labels[m] == [CLASSES[CLASSES.index(own[0]) - 1]])
        for own in clips.labels
    ]
    wrong = judge.correspondence(v, a[others])
    assert own.mean() > 0.7 > 0.3 > wrong.mean()


@pytest.mark.slow
def test_it_goes_on_bit_for_bit(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    steps = ("train.steps=4", "train.checkpoint_every=2")
    whole = run_here(tmp_path / "whole", shards, *steps)
    calls: list[int] = []

    def stopped(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return avc_loss(*given)

    monkeypatch.setattr("stages.train_avc.avc_loss", stopped)
    with pytest.raises(SystemExit) as ended:
        run_here(tmp_path / "halves", shards, *steps)
    assert ended.value.code == 130
    monkeypatch.undo()
    halves = run_here(tmp_path / "halves", shards, *steps)
    one, other = load_weights(whole)[1], load_weights(halves)[1]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_one_batch_can_be_learnt_by_heart() -> None:
    """Noise that nothing ties together but being a pair."""
    torch.manual_seed(0)
    network = AvcNetwork(width=8, dim=16, image_px=32)
    x, s = torch.randn(6, 3, 32, 32), torch.randn(6, 1, 32, 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(80):
        found = avc_loss(network(x, s), ~torch.eye(6, dtype=torch.bool))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert found["accuracy"].item() == 1
    assert found["loss"].item() < 0.1


# the judge


def judge(**options: Any) -> TrainedAvc:
    torch.manual_seed(0)
    return TrainedAvc(AvcNetwork(width=4, dim=8, image_px=32).eval(), AVC, **options)


def test_long_sounds_are_heard_in_windows_and_short_ones_start_over() -> None:
    own, rng = judge(), np.random.default_rng(0)
    long = rng.normal(0, 0.1, 100_000).astype(np.float32)
    parts = [long[first : first + 48_000] for first in (0, 24_000, 48_000)]
    found = own.sounds([long, long[:20_000]])
    np.testing.assert_allclose(found[0], own.sounds(parts).mean(axis=0), atol=1e-5)
    again = np.tile(long[:20_000], 3)[:48_000]
    np.testing.assert_allclose(found[1], own.sounds([again])[0], atol=1e-6)


def test_another_rate_is_brought_to_its_own() -> None:
    t = np.arange(3 * 48_000) / 48_000
    tone = np.float32(0.3 * np.sin(2 * np.pi * 440 * t))
    slow = np.float32(0.3 * np.sin(2 * np.pi * 440 * t[: 3 * 16_000] * 3))
    found, wanted = judge(rate_hz=48_000).sounds([tone]), judge().sounds([slow])
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
    assert judge(rate_hz=48_000).fingerprint() != judge().fingerprint()


def test_avc_is_a_probability() -> None:
    own, rng = judge(), np.random.default_rng(0)
    v, a = (rng.normal(0, 3, (9000, 8)).astype(np.float32) for _ in range(2))
    found = own.correspondence(v, a)
    assert found.shape == (9000,)
    assert 0 <= found.min() < found.max() <= 1
    np.testing.assert_allclose(found[[5000]], own.correspondence(v[[5000]], a[[5000]]), rtol=1e-5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batch_size=1", "no wrong pair"),
        ("min_area=2", r"min_area must lie in \(0, 1\]"),
        ("image_px=4000", "the shards in"),
        ("held_out=nothing", "nothing"),
    ],
)
def test_settings_that_cannot_be_met(
    tmp_path: Path, shards: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_here(tmp_path, shards, override)
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_what_train_avc_did_not_write_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no standard one"):
        open_encoder("avc", Wish(device=torch.device("cpu")))
    with pytest.raises(AvdataError, match="nowhere"):
        TrainedAvc.load(tmp_path / "nowhere")
    assert issubclass(WeightsError, AvdataError)
