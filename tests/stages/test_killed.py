"""Every trainer, killed in the middle of a step, learns on as if nothing had happened."""

from __future__ import annotations

import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.engine import checkpoint
from stages.engine.checkpoint import ModelCard, save_weights
from stages.engine.launch import launch
from stages.models import build
from tests.clip_factory import RATE_HZ
from tests.stages.programs import python
from tests.stages.sources_in_view import make_run
from tests.stages.text_image.tiny_models import letters_vocabulary, save_clip
from tests.stages.toy_runs import curve, same, weights

STEPS, SAVED, KILLED_AT = 6, 3, 5  # updates in all, before the checkpoint, and the one that dies
TRAIN = {
    "steps": STEPS,
    "checkpoint_every": SAVED,
    "evaluate_every": 4,
    "log_every": 1,
    "batch_size": 8,  # two updates make an epoch
    "workers": 2,
    "ema_decay": 0.9,
    "device": "cpu",
}
EYE: dict[str, Any] = {"arch": "tiny", "width": 4}
CROPS = {"min_area": 0.2, "max_area": 0.8}
STAGES: dict[str, dict[str, Any]] = {
    "train_localizer": {
        **EYE,
        "embed_dim": 16,
        "image_px": 32,
        "frames_per_clip": 2,
        "patch_s": 0.5,
        "held_out": "test",
        "train": TRAIN,
    },
    "train_image_encoder": {
        **EYE,
        "hidden_dim": 16,
        "embed_dim": 8,
        "n_prototypes": 6,
        "source_px": 32,
        "large": {"size_px": 32, **CROPS},
        "small": {"count": 1, "size_px": 16, **CROPS},
        "queue": 16,
        "queue_from_epoch": 0,
        "freeze_prototypes_steps": 2,
        "held_out": "test",
        "train": TRAIN,
    },
    "train_icgan": {
        "resolution": 32,
        "channels": 4,
        "z_dim": 16,
        "embed_dim": 16,
        "attention_px": [8],
        "encoder_view_px": 32,
        "encoder_input_px": None,
        "neighbours": 4,
        "d_steps": 2,
        "train": {**TRAIN, "ema_start_step": 1, "accumulate": 2},
    },
    "train_sound2scene": {
        **EYE,
        "duration_s": 0.5,
        "data": {"held_out_share": 0.3, "val_batch_size": 4, "image_size_px": 32, "input_px": None},
        "train": {**TRAIN, "batch_size": 4},
    },
    "train_sound_clip": {
        **EYE,
        "duration_s": 0.5,
        "sample_rate_hz": RATE_HZ,
        "data": {"held_out_share": 0.3, "val_batch_size": 4},
        "train": {**TRAIN, "batch_size": 4},
    },
    "train_adain": {
        "encoder": "random",
        "width": 4,
        "levels": 3,
        "load_px": 24,
        "crop_px": 16,
        "train": {**TRAIN, "accumulate": 2},
    },
    "train_inception": {
        "start": "nothing",
        "source_px": 32,
        "input_px": 75,
        "held_out": None,
        "train": {**TRAIN, "batch_size": 2, "steps": 4, "checkpoint_every": 2},
    },
}
KILLED = {"train_inception": 3}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 clips to train on, 4 to test, and an image encoder."""
    run = make_run(tmp_path_factory.mktemp("killed") / "run", train=16, test=4)
    card = ModelCard(name="image_encoder", settings=EYE)
    save_weights(
        run / "eye.safetensors", build("image_encoder", **EYE).state_dict(), card.metadata()
    )
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_killed_it_goes_on_bit_for_bit(name: str, shards: Path, tmp_path: Path) -> None:
    settings = {**STAGES[name], "train": {**STAGES[name]["train"], "shards": str(shards)}}
    if name == "train_sound_clip":
        settings["clip"] = str(save_clip(tmp_path / "clip", *letters_vocabulary()))
    if name in ("train_icgan", "train_sound2scene"):
        settings["image_encoder"] = str(shards / "eye.safetensors")
    path = tmp_path / "pipeline.yaml"
    path.write_text(
        yaml.safe_dump({"name": "k", "output": str(tmp_path / "k"), "stages": {name: settings}})
    )
    killed_at = KILLED.get(name, KILLED_AT)
    killed = python(["-m", "tests.stages.killed", name, str(killed_at), str(path)])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = tmp_path / "k/stages" / name
    left = checkpoint.checkpoints(resumed / "checkpoints")
    assert 0 < max(left) < killed_at
    assert not (resumed / "model.safetensors").exists()

    trainer = import_module(f"stages.{name}")
    launch(name, trainer.Settings, trainer.train, [str(path)])
    other = ["--set", f"output={tmp_path / 'undisturbed'}"]
    launch(name, trainer.Settings, trainer.train, [str(path), *other])
    whole = tmp_path / "undisturbed/stages" / name
    assert len(curve(whole)) == settings["train"]["steps"]
    assert curve(resumed) == curve(whole)
    assert same(weights(resumed), weights(whole))
    assert checkpoint.read_metadata(whole)["averaged"] is True
    (last,) = {max(checkpoint.checkpoints(folder / "checkpoints")) for folder in (resumed, whole)}
    states = [
        checkpoint.read_state(folder / f"checkpoints/step-{last:08d}")
        for folder in (resumed, whole)
    ]
    assert same(*states)
