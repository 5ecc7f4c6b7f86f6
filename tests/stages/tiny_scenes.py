"""A run with a tiny, untrained Sound2Scene in it, saved as trainings save theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from avdata.audio.spec import SOUND2SCENE
from avdata.store import Store
from stages.engine.checkpoint import ModelCard, save_weights
from stages.models import build
from stages.nn.sphere import unit_norm
from stages.sound2scene.icgan import Generator
from tests.shard_factory import Made, pack, write_table

DIM = 32  # of features
RATE_HZ = 16_000
SPEC = replace(SOUND2SCENE, name="half_second", n_samples=8000)
GENERATOR: dict[str, Any] = {
    "resolution": 32,
    "channels": 4,
    "z_dim": 16,
    "feature_dim": DIM,
    "embed_dim": 16,
    "attention_px": [],
}
ENCODER: dict[str, Any] = {"arch": "tiny", "width": 4}
SIGHT = {"encoder_view_px": 48, "encoder_input_px": 40}


def generator() -> Generator:
    """A random generator with the statistics of batch norm that training leaves."""
    torch.manual_seed(0)
    made = Generator(**GENERATOR).train()
    with torch.no_grad():
        for parameter in made.output_conv.parameters():  # pictures of visible contrast
            parameter.mul_(3)
        for _ in range(40):
            made(torch.randn(32, 16), unit_norm(torch.randn(32, DIM).abs()))
    return made.eval()


def save(path: Path, card: ModelCard, network: torch.nn.Module | None = None) -> Path:
    """Write a network, else a random one, as the product of a training."""
    torch.manual_seed(1)
    network = network or build(card.name, **card.settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, network.state_dict(), card.metadata())
    return path


def make_run(folder: Path) -> Path:
    """Make a run: three trainings and shards of two clips, 0.5 s at 8 kHz, 32 x 32 px."""
    stages = folder / "stages"
    card = ModelCard(name="icgan_generator", settings=GENERATOR)
    save(stages / "train_icgan" / "model.safetensors", card, generator())
    (stages / "train_icgan" / "settings.yaml").write_text(yaml.safe_dump(SIGHT))
    ear = ModelCard(name="audio_encoder", settings={**ENCODER, "out_dim": DIM}, audio=SPEC)
    save(stages / "train_sound2scene" / "model.safetensors", ear)
    eye = ModelCard(name="image_encoder", settings=ENCODER)
    save(stages / "train_image_encoder" / "model.safetensors", eye)
    store = Store(str(folder))
    pack(store, [write_table(store, "part", [Made(0, split="train"), Made(1, split="train")])])
    return folder


def tone(hz: float, seconds: float = 0.5, level: float = 0.3) -> NDArray[np.float32]:
    """A pitch in a little noise, at RATE_HZ."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(round(hz)).standard_normal(len(t))
    return (level * np.sin(2 * np.pi * hz * t) + 0.01 * noise).astype(np.float32)


def write_sound(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> Path:
    soundfile.write(path, samples, rate_hz)
    return path


def write_picture(path: Path, seed: int = 0) -> Path:
    """A smooth picture, 40 x 24 px."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((40, 24), Image.Resampling.BICUBIC).save(path)
    return path
