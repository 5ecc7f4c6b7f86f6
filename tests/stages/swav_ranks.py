"""SwAV as a program whose ranks also write their own weights and queue beside the pipeline file.

python -m tests.stages.swav_ranks pipeline.yaml, under torchrun.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from stages.engine.launch import launch
from stages.engine.run import Run
from stages.train_image_encoder import Settings, train


def train_and_tell(run: Run[Settings]) -> None:
    train(run)
    model = run._keeper.models["model"].module
    queue = run._keeper.states["queue"].queue  # type: ignore[attr-defined]
    content = {**dict(model.named_parameters()), "queue": queue.embeddings}
    torch.save(content, Path(sys.argv[1]).with_name(f"rank{run.rank}.pt"))


if __name__ == "__main__":
    launch("train_image_encoder", Settings, train_and_tell)
