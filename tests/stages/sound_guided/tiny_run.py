"""A run with a tiny, untrained system in it, saved as its trainings save it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from avdata.audio.spec import AudioSpec
from stages.engine.checkpoint import ModelCard, save_weights
from stages.models import build
from stages.sound_guided.embedder import MODEL
from stages.sound_guided.sound_encoder import audio_spec
from stages.text_image.model import TextImage
from tests.stages.sound_guided.tiny import SIDE, SIZES, generator
from tests.stages.text_image.tiny_models import letters_vocabulary, save_clip

DIM = 16
SPEC: AudioSpec = audio_spec(duration_s=1, sample_rate_hz=16_000)
FEW = {"move_steps": 6, "invert_steps": 6}


def make_run(folder: Path) -> Path:
    """Write what the three trainings leave."""
    stages = folder / "stages"
    for name in ("train_stylegan2", "train_clip", "train_sound_clip"):
        (stages / name).mkdir(parents=True)
    card = ModelCard(name="stylegan2_generator", settings={"resolution": SIDE, **SIZES})
    _save(stages / "train_stylegan2", generator(), card)
    save_clip(stages / "train_clip", *letters_vocabulary())
    save_ear(stages / "train_sound_clip", stages / "train_clip")
    return folder


def save_ear(folder: Path, clip: Path, **changes: Any) -> None:
    settings: dict[str, Any] = {"arch": "tiny", "dim": DIM, "width": 4} | changes
    torch.manual_seed(2)
    space = TextImage.load(clip).fingerprint()
    features = {"name": str(clip), "space": space}
    card = ModelCard(name=MODEL, settings=settings, audio=SPEC, features=features)
    _save(folder, build(MODEL, **settings), card)


def _save(folder: Path, network: torch.nn.Module, card: ModelCard) -> None:
    save_weights(folder / "model.safetensors", network.state_dict(), card.metadata())
