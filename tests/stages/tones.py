"""Small shards in which eight kinds of stripes have a pitch each, and trainings on them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from avdata.config import ShardSettings
from avdata.store import Store
from stages.engine.checkpoint import ModelCard, save_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.models import build
from stages.train_sound2scene import Settings, train
from tests import shard_factory
from tests.shard_factory import Made, pack, write_table
from tests.stages.programs import python

RATE_HZ = 16_000
KINDS = 8
TRAIN_CLIPS, VAL_CLIPS = 32, 8
ENCODER = {"arch": "tiny", "width": 4}  # 32 features
CLOCKED = {"samples_per_s", "data_wait_share"}


def tone(made: Made) -> np.ndarray:
    """A pitch per kind, an octave and a half in all, in a noise of the clip's own."""
    rng = np.random.default_rng(made.number)
    t = np.arange(made.n_samples) / RATE_HZ
    pitch_hz = 400 * 1.4 ** (made.number % KINDS)
    wave = 0.3 * np.sin(2 * np.pi * pitch_hz * t) + 0.01 * rng.standard_normal(t.size)
    return (wave * 32767).astype(np.int16)


def stripes(made: Made, frame: int) -> np.ndarray:
    """A colour and a width of stripes per kind; every frame a little brighter."""
    kind = made.number % KINDS
    colour = np.array([255 * (kind >> bit & 1) for bit in range(3)]) // 2 + 20 * frame
    bright = np.arange(32) // (kind % 3 + 1) % 2 * 60
    image = np.broadcast_to(colour + bright[None, :, None], (32, 32, 3))
    return image.clip(0, 255).astype(np.uint8)


def made_clips(with_val: bool = True) -> list[Made]:
    """Four clips a video; half a second each, every third one shorter."""
    count = TRAIN_CLIPS + (VAL_CLIPS if with_val else 0)
    return [
        Made(
            n,
            source=n // 4,
            start_ms=n % 4 * 500,
            split="train" if n < TRAIN_CLIPS else "val",
            n_samples=8000 if n % 3 else 3000,
        )
        for n in range(count)
    ]


def pack_clips(folder: Path, clips: list[Made], settings: ShardSettings, rate_hz: int) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_factory, "picture", stripes)
        patch.setattr(shard_factory, "sound", tone)
        patch.setattr(shard_factory, "SAMPLE_RATE_HZ", rate_hz)
        store = Store(str(folder))
        pack(store, [write_table(store, "part", clips)], settings)
    return folder


def save_image_encoder(path: Path) -> Path:
    """Save an untrained image encoder of 32 features, and return `path`."""
    torch.manual_seed(0)
    card = ModelCard(name="image_encoder", settings=ENCODER)
    save_weights(path, build("image_encoder", **ENCODER).state_dict(), card.metadata())
    return path


@dataclass(frozen=True)
class Program:
    """The trainer over a pipeline file."""

    pipeline: Path

    @property
    def folder(self) -> Path:
        return self.pipeline.parent / "run/stages/train_sound2scene"

    def arguments(self, overrides: tuple[str, ...]) -> list[str]:
        words = [str(self.pipeline)]
        for text in overrides:
            whole = text if text.startswith("output=") else f"stages.train_sound2scene.{text}"
            words += ["--set", whole]
        return words

    def here(self, *overrides: str, output: Path | None = None) -> Path:
        """Train in this process, and return the folder."""
        if output is not None:
            overrides = (*overrides, f"output={output}")
        launch("train_sound2scene", Settings, train, self.arguments(overrides))
        return self.folder if output is None else output / "stages/train_sound2scene"

    def started(self, *overrides: str, processes: int = 0) -> subprocess.CompletedProcess[str]:
        """Train as a program, under torchrun if `processes` are given."""
        starter = ["-m"]
        if processes:
            torchrun = "torch.distributed.run"
            starter += [torchrun, "--standalone", f"--nproc-per-node={processes}", "-m"]
        return python([*starter, "stages.train_sound2scene", *self.arguments(overrides)])


def curve(folder: Path) -> list[dict[str, float]]:
    """Return metrics.jsonl without what a clock measured."""
    return [{k: v for k, v in line.items() if k not in CLOCKED} for line in read_metrics(folder)]
