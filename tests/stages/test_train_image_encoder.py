"""SwAV as a program: it learns, uses its queue, resumes exactly, and ends the same on all ranks."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avdata.clip import Clip
from avdata.config import ShardSettings
from avdata.store import Store
from stages import train_image_encoder as trainer
from stages.engine.checkpoint import checkpoints, load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.image_encoder.frozen import load_image_encoder
from stages.losses.swav import swapped_prediction
from stages.models import build
from stages.train_image_encoder import Settings, train
from tests import shard_factory
from tests.shard_factory import Made, pack, write_table
from tests.stages.programs import python

NAME = "train_image_encoder"
KINDS = ("dots", "lines")
CLOCKED = {"samples_per_s", "data_wait_share"}


def textured(made: Made, frame: int) -> np.ndarray:
    """Even clips show dots, odd ones lines, each with colours and a place of its own."""
    rng = np.random.default_rng(1000 * frame + made.number)
    low, high = rng.integers(0, 110, 3), rng.integers(140, 256, 3)
    y, x = np.mgrid[:32, :32] + rng.integers(0, 8, 2)[:, None, None]
    on = (y % 8 < 3) & (x % 8 < 3) if made.number % 2 == 0 else y % 8 < 3
    return np.where(on[..., None], high, low).astype(np.uint8)


def labelled(made: Made, *rest: object) -> Clip:
    return dataclasses.replace(REAL_CLIP(made, *rest), labels=(KINDS[made.number % 2],))  # type: ignore[arg-type]


REAL_CLIP = shard_factory._clip


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 clips to train on and 20 to test, 32 x 32 px, of two kinds."""
    folder = tmp_path_factory.mktemp("textures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_factory, "picture", textured)
        patch.setattr(shard_factory, "_clip", labelled)
        store = Store(str(folder))
        clips = [Made(n, split="train" if n < 40 else "test", n_samples=100) for n in range(60)]
        pack(store, [write_table(store, "part", clips)], ShardSettings(splits={"train": 1.0}))
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path) -> Path:
    path = tmp_path / "swav.yaml"
    path.write_text(f"""
name: swav
seed: 5
output: {tmp_path / "run"}
stages:
  {NAME}:
    train: {{steps: 8, batch_size: 8, log_every: 1, checkpoint_every: 3, shards: {shards},
            device: cpu, workers: 0}}
    arch: tiny
    width: 4
    hidden_dim: 16
    embed_dim: 8
    n_prototypes: 6
    source_px: 32
    large: {{size_px: 32, min_area: 0.4}}
    small: {{count: 2, size_px: 16, min_area: 0.2, max_area: 0.4}}
    distortion: {{jitter: 0.5, blur_max_px: 0.5}}
    epsilon: 0.05
    queue: 16
    queue_from_epoch: 0
    freeze_prototypes_steps: 3
    optimizer: adamw
    lr: 0.01
""")
    return path


def run_here(pipeline: Path, *overrides: str) -> Path:
    """Train in this process; return the stage's folder."""
    launch(NAME, Settings, train, arguments(pipeline, *overrides))
    return pipeline.parent / "run/stages" / NAME


def arguments(pipeline: Path, *overrides: str) -> list[str]:
    words = [str(pipeline)]
    for text in overrides:
        words += ["--set", text if text.startswith("output=") else f"stages.{NAME}.{text}"]
    return words


def run_program(
    pipeline: Path, *overrides: str, processes: int = 0
) -> subprocess.CompletedProcess[str]:
    starter = ["-m", f"stages.{NAME}"]
    if processes:
        options = ["--standalone", f"--nproc-per-node={processes}"]
        starter = ["-m", "torch.distributed.run", *options, "-m", "tests.stages.swav_ranks"]
    return python([*starter, *arguments(pipeline, *overrides)])


def curve(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in x.items() if k not in CLOCKED} for x in read_metrics(folder)]


def test_it_learns_and_its_product_is_an_image_encoder(pipeline: Path) -> None:
    folder = run_here(
        pipeline,
        *("train.steps=60", "train.batch_size=20", "train.evaluate_every=60", "held_out=test"),
        *("queue=40", "distortion.jitter=0.2", "distortion.grey_chance=0"),
    )
    lines = read_metrics(folder)
    losses = [line["loss"] for line in lines]
    # Predicting equal shares costs ln K; less than that is known of the other crops.
    assert losses[0] > math.log(6)
    assert np.mean(losses[-10:]) < math.log(6) - 0.2
    assert lines[-1]["val_top1"] >= 0.8  # chance is 0.5
    encoder = load_image_encoder(folder)
    found = encoder.features(torch.zeros(2, 3, 32, 32))
    assert found.shape == (2, 32)
    assert torch.isfinite(found).all()


@pytest.mark.slow
def test_as_a_program(pipeline: Path) -> None:
    done = run_program(pipeline, "train.steps=2")
    assert done.returncode == 0, done.stderr
    folder = pipeline.parent / "run/stages" / NAME
    assert load_weights(folder)[0]["model"] == "swav"


def test_interrupted_it_resumes_bit_for_bit(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_here(pipeline)
    expected = curve(whole), load_weights(whole)[1]
    whole.parent.rename(whole.parent.with_name("undisturbed"))
    real = trainer.warmup_cosine

    def interrupted(step: int, *rest: float, **how: float) -> float:
        if step == 5:  # after the checkpoint of step 3
            raise KeyboardInterrupt
        return real(step, *rest, **how)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "warmup_cosine", interrupted)
        with pytest.raises(SystemExit) as stopped:
            run_here(pipeline)
    assert stopped.value.code == 130
    assert list(checkpoints(whole / "checkpoints")) == [3]
    resumed = run_here(pipeline)
    assert curve(resumed) == expected[0]
    found = load_weights(resumed)[1]
    assert all(torch.equal(found[name], value) for name, value in expected[1].items())


def test_queue_takes_part_once_it_is_full(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued: list[tuple[int, ...] | None] = []

    def spy(scores: Tensor, queued_scores: Tensor | None = None, **how: float) -> Tensor:
        queued.append(None if queued_scores is None else tuple(queued_scores.shape))
        return swapped_prediction(scores, queued_scores, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "swapped_prediction", spy)
    # 5 steps an epoch; the queue of 16 holds two batches of 8.
    run_here(pipeline, "queue_from_epoch=1", "train.steps=9")
    assert queued == [None] * 7 + [(2, 16, 6)] * 2


def test_prototypes_stay_while_frozen_and_are_normalised(pipeline: Path) -> None:
    folder = run_here(pipeline, "train.steps=1")
    first = prototypes(folder)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(6))
    run_here(pipeline, "train.steps=3")
    torch.testing.assert_close(prototypes(folder), first)
    run_here(pipeline, "train.steps=5")
    assert (prototypes(folder) - first).abs().max() > 1e-3


def prototypes(folder: Path) -> Tensor:
    return load_weights(folder)[1]["prototypes.weight"]


def test_it_starts_from_a_published_checkpoint(pipeline: Path, tmp_path: Path) -> None:
    torch.manual_seed(9)
    settings = {"arch": "tiny", "width": 4, "hidden_dim": 16, "embed_dim": 8, "n_prototypes": 6}
    theirs = build("swav", **settings).state_dict()
    published = {f"module.{k.removeprefix('encoder.trunk.')}": v for k, v in theirs.items()}
    torch.save(published, tmp_path / "swav.pth.tar")
    folder = run_here(
        pipeline, f"published={tmp_path / 'swav.pth.tar'}", "lr=0", "final_lr=0", "train.steps=1"
    )
    ours = load_weights(folder)[1]
    trained = [name for name in theirs if "running" not in name and "tracked" not in name]
    for name in trained:
        wanted = theirs[name]
        if name == "prototypes.weight":
            wanted = wanted / wanted.norm(dim=1, keepdim=True)
        torch.testing.assert_close(ours[name], wanted)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("large.min_area=1.5", "min_area and max_area must rise within"),
        ("large.count=0", "large.count must be 1 or more"),
        ("train.strategy=fsdp", "train.strategy=ddp"),
        ("source_px=64", "hold 32 x 32 px"),
        ("held_out=nowhere", "no clips in split 'nowhere'"),
        ("published=/nowhere/swav.pth", "does not exist"),
        ("colour=1", "unknown key 'colour'"),
        ("lr=.nan", "lr must be 0 or more, got nan"),
        ("n_prototypes=0", "n_prototypes must be greater than 0, got 0"),
        ("distortion.blur_max_px=.inf", "blur_max_px must be greater than 0, got inf"),
        ("sinkhorn_iterations=0", "sinkhorn_iterations must be greater than 0, got 0"),
    ],
)
def test_settings_that_cannot_be_met(
    pipeline: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_here(pipeline, override, "train.steps=1")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_and_resume_with_their_own_queues(
    pipeline: Path,
) -> None:
    def run(*overrides: str) -> list[dict[str, Tensor]]:
        done = run_program(pipeline, *overrides, processes=2)
        assert done.returncode == 0, done.stderr
        files = [pipeline.with_name(f"rank{rank}.pt") for rank in (0, 1)]
        return [torch.load(file, weights_only=True) for file in files]

    ranks = run("train.steps=6")
    queues = [rank.pop("queue") for rank in ranks]
    assert queues[0].shape == (2, 8, 8)  # 16 over two ranks
    assert not torch.equal(queues[0], queues[1])
    for name, value in ranks[0].items():
        assert torch.isfinite(value).all()
        assert torch.equal(value, ranks[1][name]), name
    again = run("train.steps=6")  # complete: everything comes from the checkpoint
    assert all(torch.equal(again[rank]["queue"], queues[rank]) for rank in (0, 1))
