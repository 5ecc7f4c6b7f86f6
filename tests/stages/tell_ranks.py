"""A trainer as a program whose ranks also write their own weights beside the pipeline file.

python -m tests.stages.tell_ranks train_x pipeline.yaml, under torchrun.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.engine.launch import launch
from stages.engine.run import Run
from tests.stages.programs import python


def weights_of_two_ranks(name: str, pipeline: Path, *overrides: str) -> list[dict[str, Tensor]]:
    """Train on two processes; return the parameters with which each of them ended."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    changes = [word for o in overrides for word in ("--set", f"stages.{name}.{o}")]
    done = python(["-m", *torchrun, "-m", __name__, name, str(pipeline), *changes])
    assert done.returncode == 0, done.stderr
    return [torch.load(_file(pipeline, rank), weights_only=True) for rank in (0, 1)]


def _file(pipeline: Path, rank: int) -> Path:
    return pipeline.with_name(f"rank{rank}.pt")


def main() -> None:
    name, *arguments = sys.argv[1:]
    trainer = import_module(f"stages.{name}")

    def train_and_tell(run: Run[Any]) -> None:
        trainer.train(run)
        models = run._keeper.models.items()
        content = {f"{n}.{k}": p for n, m in models for k, p in m.module.named_parameters()}
        torch.save(content, _file(Path(arguments[0]), run.rank))

    launch(name, trainer.Settings, train_and_tell, arguments)


if __name__ == "__main__":
    main()
