"""Runs of the toy trainer, in this process or as a program, and what they leave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import torch

from stages.engine.checkpoint import load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from tests.stages.programs import python
from tests.stages.toy_trainer import Settings, train

CLOCKED = {"samples_per_s", "data_wait_share"}


def run_here(pipeline: Path, *overrides: str, fresh: bool = False) -> Path:
    """Train the toy in this process; keys of overrides start at its section. Return its folder."""
    launch("train_toy", Settings, train, _arguments(pipeline, overrides, fresh))
    return folder_of(pipeline)


def run_program(
    pipeline: Path,
    *overrides: str,
    processes: int = 0,
    module: str = "tests.stages.toy_trainer",
    killed_at: int = 0,
    terminated_at: int = 0,
    gpu: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Train the toy as a program, under torchrun if `processes` are given.

    killed_at: the step at which it dies by SIGKILL; 0: never. terminated_at: at which its last
    process is sent SIGTERM. gpu: let it see the first GPU.
    """
    starter = ["-m"]
    if processes:
        starter += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    words = [*starter, module, *_arguments(pipeline, overrides, False)]
    environment = {"TOY_KILLED_AT": str(killed_at), "TOY_TERMINATED_AT": str(terminated_at)}
    if gpu:
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    return python(words, **environment)


def folder_of(pipeline: Path) -> Path:
    return pipeline.parent / "run" / "stages" / "train_toy"


def curve(folder: Path) -> list[dict[str, float]]:
    """Return metrics.jsonl without what a clock measured."""
    return [
        {name: value for name, value in line.items() if name not in CLOCKED}
        for line in read_metrics(folder)
    ]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path)[1]


def same(left: object, right: object) -> bool:
    """Tell whether two trees of plain values and tensors are equal, bit for bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def _arguments(pipeline: Path, overrides: tuple[str, ...], fresh: bool) -> list[str]:
    words = [str(pipeline)]
    for text in overrides:
        words += ["--set", text if text.startswith("output=") else f"stages.train_toy.{text}"]
    return [*words, "--fresh"] if fresh else words
