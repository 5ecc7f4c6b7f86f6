"""Real torchrun, two processes, gloo: what is learnt does not depend on how it is divided."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stages.engine.checkpoint import checkpoints
from tests.stages.programs import ROOT
from tests.stages.toy_runs import curve, folder_of, run_here, run_program, weights

# Without what depends on how a batch is divided: its statistics, and noise drawn per rank.
DIVISIBLE = ("batch_norm=false", "dropout=0", "noise=0", "train.ema_decay=0.5", "train.steps=6")


@pytest.fixture
def alone(pipeline: Path, tmp_path: Path) -> Path:
    run_here(pipeline, *DIVISIBLE, f"output={tmp_path / 'alone'}")
    return tmp_path / "alone" / "stages" / "train_toy"


def assert_same_training(folder: Path, alone: Path, *, sharded: bool = False) -> None:
    for mine, other in zip(curve(folder), curve(alone), strict=True):
        if sharded:  # 7 held-out clips for two ranks that have to stay together: one comes twice
            mine, other = ({k: v for k, v in m.items() if k != "val_loss"} for m in (mine, other))
        assert mine == pytest.approx(other, rel=1e-5)
    for name in ("model.safetensors", "model.ema.safetensors"):
        mine, other = (weights(f / "checkpoints/step-00000006" / name) for f in (folder, alone))
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_micro_batches_equal_a_big_batch(pipeline: Path, alone: Path) -> None:
    assert_same_training(run_here(pipeline, *DIVISIBLE, "train.accumulate=4"), alone)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_equal_one(strategy: str, pipeline: Path, alone: Path) -> None:
    """Both are killed at step 4; one process takes over from DDP, two from FSDP."""
    options = (*DIVISIBLE, f"train.strategy={strategy}", "train.accumulate=2")
    killed = run_program(pipeline, *options, processes=2, killed_at=4)
    assert "SIGKILL" in killed.stderr
    folder = folder_of(pipeline)
    assert len(curve(folder)) == 3
    if strategy == "ddp":
        run_here(pipeline, *DIVISIBLE)
    else:
        done = run_program(pipeline, *options, processes=2)
        assert done.returncode == 0, done.stderr
    assert_same_training(folder, alone, sharded=strategy == "fsdp")
    lines = (folder / "environment.jsonl").read_text().splitlines()
    assert [json.loads(line)["processes"] for line in lines] == [2, 1 if strategy == "ddp" else 2]


def test_sigterm_to_one_of_two_processes(pipeline: Path, alone: Path) -> None:
    """Both end after the same step, which one that is told of the end at step 3 hears of at 4."""
    ended = run_program(pipeline, *DIVISIBLE, processes=2, terminated_at=3)
    assert ended.returncode == 1  # torchrun's, whatever its workers end with
    assert ended.stderr.count("ended by SIGTERM after step 4, which is saved") == 2
    assert "exitcode  : 143" in ended.stderr
    folder = folder_of(pipeline)
    assert list(checkpoints(folder / "checkpoints")) == [4]
    run_here(pipeline, *DIVISIBLE)
    assert_same_training(folder, alone)


@pytest.mark.slow
def test_sigterm_to_torchrun(pipeline: Path) -> None:
    """As a cluster sends it: torchrun passes it on to both of its workers."""
    metrics = folder_of(pipeline) / "metrics.jsonl"
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += ["-m", "tests.stages.toy_trainer", str(pipeline)]
    options = ("train.steps=100000", "train.evaluate_every=100000", "train.checkpoint_every=100000")
    for option in (*DIVISIBLE, *options):
        words += ["--set", f"stages.train_toy.{option}"]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        while not metrics.exists() or metrics.read_text().count("\n") < 3:
            assert program.poll() is None
            time.sleep(0.05)
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=120)
    assert errors.count("which is saved; the same command goes on") == 2
    (step,) = checkpoints(folder_of(pipeline) / "checkpoints")
    assert step >= 3
    assert [line["step"] for line in curve(folder_of(pipeline))] == list(range(1, step + 1))


def test_adversaries_on_two_processes(pipeline: Path) -> None:
    done = run_program(pipeline, processes=2, module="tests.stages.toy_gan")
    assert done.returncode == 0, done.stderr
    assert "adversaries agree" in done.stdout
