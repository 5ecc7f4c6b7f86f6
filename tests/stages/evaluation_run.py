"""A run to evaluate: shards of coloured clips, and tiny random products of the three trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avdata.audio.spec import SOUND2SCENE
from avdata.clip import Selection, Status
from avdata.store import Store
from avdata.tables import write_clips
from stages.engine.checkpoint import ModelCard, save_weights
from stages.models import build
from stages.sound2scene.icgan import Generator
from tests.clip_factory import ClipFactory
from tests.shard_factory import pack

RATE_HZ = 16_000
DIM = 32
SPEC = replace(SOUND2SCENE, name="half_second", n_samples=8000)
COLOURS = {"fire": (220, 60, 20), "sea": (30, 80, 200), "snow": (240, 240, 240)}
PITCHES_HZ = {"fire": 300, "sea": 900, "snow": 2100}
CLIPS = {"train": 4, "test": 4}  # of each class; two of each source video
GENERATOR: dict[str, Any] = {
    "resolution": 32,
    "channels": 4,
    "z_dim": 16,
    "feature_dim": DIM,
    "embed_dim": 16,
    "attention_px": [],
}
ENCODER: dict[str, Any] = {"arch": "tiny", "width": 4}


def make_shards(folder: Path, classes: tuple[str, ...] = tuple(COLOURS)) -> None:
    """Pack clips of 0.5 s whose colour and pitch tell their class; and one without any class."""
    factory = ClipFactory(folder)
    rng = np.random.default_rng(0)
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    clips = []
    for split, count in CLIPS.items():
        for name in classes:
            for n in range(count):
                image = np.clip(COLOURS[name] + rng.normal(0, 12, (32, 32, 3)), 0, 255)
                key = f"{split}-{name}-{n}"
                clips.append(
                    factory.clip(
                        key,
                        [np.uint8(image)],
                        [0.25],
                        0.3 * np.sin(2 * np.pi * (PITCHES_HZ[name] + 10 * n) * t),
                        rate_hz=RATE_HZ,
                        source_id=f"{split}-{name}-video-{n // 2}",
                        split=split,
                        labels=(name,),
                        status=Status.ACCEPTED,
                        selection=Selection("mid", (1.0,), (0,)),
                    )
                )
    last = clips[-1]
    clips.append(replace(last, key="test-unknown", labels=("a class of its own",)))
    factory.part()
    write_clips(folder / "table.parquet", clips)
    pack(Store(str(folder)), ["table.parquet"])


def make_products(folder: Path, *, contrast: float = 3.0) -> None:
    """Save random networks as the trainings do; at contrast 0 every picture is the same grey."""
    torch.manual_seed(0)
    generator = Generator(**GENERATOR).eval()
    with torch.no_grad():
        for parameter in generator.output_conv.parameters():
            parameter.mul_(contrast)
    _save(folder, "train_icgan", ModelCard(name="icgan_generator", settings=GENERATOR), generator)
    ear = ModelCard(name="audio_encoder", settings={**ENCODER, "out_dim": DIM}, audio=SPEC)
    _save(folder, "train_sound2scene", ear)
    _save(folder, "train_image_encoder", ModelCard(name="image_encoder", settings=ENCODER))
    sight = {"encoder_view_px": 40, "encoder_input_px": None}
    (folder / "stages" / "train_icgan" / "settings.yaml").write_text(json.dumps(sight))


def _save(
    folder: Path, stage: str, card: ModelCard, network: torch.nn.Module | None = None
) -> None:
    network = network or build(card.name, **card.settings)
    path = folder / "stages" / stage / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_weights(path, network.state_dict(), card.metadata())


def pipeline_file(folder: Path, stages: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Write a pipeline that scores with colours alone, without CLIP; `stages`: other sections."""
    own = {"recall": "probe", "features": "thumbnail", "resamples": 50}
    section = {**own, "is_splits": 2, "device": "cpu", "batch_size": 5, **settings}
    tree = {
        "name": "made",
        "output": str(folder),
        "seed": 3,
        "stages": {"evaluate": section, **(stages or {})},
    }
    path = folder.with_suffix(".yaml")
    path.write_text(json.dumps(tree))
    return path
