"""What stages/engine/README.md says: its trainer trains, and its table has every file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdata.audio.spec import SOUND2SCENE
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard, read_metadata
from stages.engine.launch import launch
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings
from tests.stages.programs import ROOT
from tests.stages.toy_runs import curve, folder_of

ENGINE = ROOT / "stages" / "engine"
README = (ENGINE / "README.md").read_text(encoding="utf-8")


class Toy(nn.Module):
    """Picture [B, 3, H, W] to logits [B, 2]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.LazyLinear(2))
        self(torch.zeros(1, 3, 32, 32))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def target(labels: list[list[str]]) -> Tensor:
    return torch.tensor([bool(names) for names in labels], dtype=torch.int64)


def test_its_trainer_trains(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.S)[0].replace('"val"', '"test"')
    names: dict[str, Any] = {
        **{"__name__": __name__, "Toy": Toy, "target": target, "F": F, "Tensor": Tensor},
        **{"dataclass": dataclass, "section": section, "setting": setting, "View": View},
        **{"TensorBatch": TensorBatch, "ModelCard": ModelCard, "Run": Run, "launch": launch},
        **{"adamw": adamw, "warmup_cosine": warmup_cosine, "TrainSettings": TrainSettings},
        "SPEC": replace(SOUND2SCENE, sample_rate_hz=8000),
    }
    exec(
        compile(code.replace("__main__", __name__), str(ENGINE / "README.md"), "exec"),
        {**names, "launch": lambda *given: names.update(given=given)},
    )
    launch(*names["given"], [str(pipeline)])
    folder = folder_of(pipeline)
    assert [line["step"] for line in curve(folder) if "val_loss" in line] == [4, 8]
    assert read_metadata(folder)["model"] == "toy"


def test_its_table_has_every_file() -> None:
    rows = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+\.py)`", row)]
    assert len(named) == len(set(named))
    assert set(named) == {path.name for path in ENGINE.glob("*.py")} - {"__init__.py"}
