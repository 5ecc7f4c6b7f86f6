"""A run with a tiny, untrained AVStyle in it, saved as its training saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from avdata.audio.spec import AVSTYLE
from avdata.store import Store
from stages.avstyle.generator import Generator
from stages.avstyle.load import load_model
from stages.avstyle.restyler import Restyler
from stages.engine.checkpoint import ModelCard, publish, save_weights
from stages.models import build
from tests.shard_factory import Made, pack, write_table

SIDE_PX, DIM = 32, 8
GENERATOR: dict[str, Any] = {"width": 4, "blocks": 3, "sound_dim": DIM, "enters": "film"}
EAR: dict[str, Any] = {"arch": "tiny", "width": 4, "out_dim": DIM}


def random_generator(**changes: Any) -> Generator:
    """A generator with weights large enough that it draws something, and listens."""
    torch.manual_seed(0)
    network = Generator(**GENERATOR | changes)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(0, 0.5 if "film" in name else 0.15)
    return network.eval()


def make_training(folder: Path, told: list[str] | None = None, **changes: Any) -> Path:
    """Write what train_avstyle leaves, complete; told: the classes of a baseline."""
    folder.mkdir(parents=True)
    sizes = GENERATOR | changes
    painter = ModelCard(name="avstyle_generator", settings=sizes)
    ear = ModelCard(
        name="avstyle_sound_encoder", settings=EAR | {"out_dim": sizes["sound_dim"]}, audio=AVSTYLE
    )
    name = "sound_encoder"
    if told is not None:
        classes = {"names": told, "word_dim": None, "out_dim": sizes["sound_dim"]}
        name, ear = "condition", ModelCard(name="avstyle_condition", settings=classes)
    torch.manual_seed(1)
    heard = build(ear.name, **ear.settings)
    networks = {"generator": (random_generator(**changes), painter), name: (heard, ear)}
    files = {}
    for product, (network, card) in networks.items():
        files[product] = folder / f"{product}.at.safetensors"
        save_weights(files[product], network.state_dict(), card.metadata())
    publish(folder, files)
    for file in files.values():
        file.unlink()
    (folder / "settings.yaml").write_text(yaml.safe_dump({"resolution_px": SIDE_PX}))
    return folder


def make_run(folder: Path, **changes: Any) -> Path:
    """Make a run: the training, and shards of two clips of two videos, 0.5 s at 8 kHz."""
    make_training(folder / "stages" / "train_avstyle", **changes)
    store = Store(str(folder))
    pack(store, [write_table(store, "part", [Made(0, split="train"), Made(1, split="train")])])
    return folder


def restyler(folder: Path, **changes: Any) -> Restyler:
    return load_model(make_run(folder / "run", **changes), device="cpu")
