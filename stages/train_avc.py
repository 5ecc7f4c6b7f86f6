"""Teach a network which sound belongs to which picture: python -m stages.train_avc PIPELINE.yaml

AVStyle's paper measures audio-visual correspondence (AVC) by OpenL3. Where its weights cannot be
had, this small network, taught on the training split, stands in its place: `stages.evaluate` takes
its folder, and its tables say so. Right are a clip's frame and its own sound; wrong, the sounds of
the other clips of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from avdata.audio.spec import AVC
from avdata.errors import SettingsError
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.launch import launch
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.losses.correspondence import avc_loss
from stages.nn.avc import AvcNetwork
from stages.nn.frontend import Frontend
from stages.pairs.clips import Clips, read_clips

NAME = "train_avc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As all trainers; it is soon learnt."""

    epochs: int = setting(20, "How often the training split is gone through.")
    batch_size: int = setting(32, "Clips of one update; each sound is wrong for all but one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The network, what it sees, what counts as wrong."""

    train: Train = section(Train, "Length, batch, precision, checkpoints.")
    arch: str = setting("tiny", "Both towers: tiny, resnet18 or resnet50.")
    width: int | None = setting(None, "Channels of the towers' first layer; null: the arch's own.")
    dim: int = setting(128, "Features of a picture, and of a sound.")
    image_px: int = setting(128, "Side to which pictures are squashed.")
    min_area: float = setting(0.5, "Smallest share of a picture that a training crop shows.")
    frame: Literal["best", "random"] = setting(
        "random", "For training: the best frame, or any of the clip's stored ones."
    )
    negatives: Literal["clips", "classes"] = setting(
        "classes",
        "Wrong are sounds of other videos (clips), or those alone that share no label (classes).",
    )
    lr: float = setting(1e-3, "Peak learning rate.")
    warmup_steps: int = setting(100, "Updates in which the rate rises from 0.")
    weight_decay: float = setting(1e-2, "Decay of the weights, without biases and norms.")
    held_out: str | None = setting("val", "Split for val_loss and val_accuracy; null: none.")

    def __post_init__(self) -> None:
        bounded(self, "min_area", "dim", "image_px", "width", above=0)
        bounded(self, "lr", "warmup_steps", "weight_decay", least=0)
        if self.min_area > 1:
            raise ValueError(f"min_area must lie in (0, 1], got {self.min_area}")
        if self.train.batch_size // self.train.accumulate < 2:
            raise ValueError("a micro-batch of one clip has no wrong pair: batch_size must be 2 up")


def train(run: Run[Settings]) -> None:
    """Teach the two towers and their head."""
    settings = run.settings
    heard_s = AVC.n_samples / AVC.sample_rate_hz
    plain = View(image_size_px=settings.image_px, audio_s=heard_s, short_audio="tile")
    varied = View(
        image_size_px=settings.image_px,
        crop_area=(settings.min_area, 1.0),
        flip=True,
        frame=settings.frame,
        audio_s=heard_s,
        audio_start="random",
        short_audio="tile",
    )
    batches = run.batches("train", view=varied, audio=AVC)
    clips = read_clips(run.shards, "train")
    require_wrong_pairs(clips, settings.negatives)
    videos = dict(zip(clips.keys, clips.sources, strict=True))
    held_out = None
    if settings.held_out is not None:
        held_out = run.held_out(settings.held_out, view=plain, audio=AVC, drop_last=True)
        clips = read_clips(run.shards, settings.held_out)
        videos |= dict(zip(clips.keys, clips.sources, strict=True))

    architecture: dict[str, Any] = {
        "arch": settings.arch,
        "width": settings.width,
        "dim": settings.dim,
        "image_px": settings.image_px,
    }
    card = ModelCard(name="avc", settings=architecture, audio=AVC)
    model = run.model("avc", AvcNetwork(**architecture), card=card)
    frontend = Frontend(AVC).to(run.device)
    optimizer = run.optimizer(
        "optimizer", adamw(model, lr=settings.lr, weight_decay=settings.weight_decay)
    )

    def loss(batch: TensorBatch) -> dict[str, Tensor]:
        logits = model(batch.image, frontend(batch.audio))
        sources = [videos[key] for key in batch.keys]
        labels = batch.labels if settings.negatives == "classes" else [[] for _ in sources]
        return avc_loss(logits, apart(sources, labels).to(run.device))

    for step in run.steps(batches):
        values = run.backward(model, batches, loss)
        lr = warmup_cosine(step, run.total_steps, settings.lr, warmup=settings.warmup_steps)
        norm = run.update(optimizer, lr=lr)
        run.log({**values, "grad_norm": norm, "lr": lr})
        if held_out is not None and run.evaluation_due:
            run.log_evaluation(run.evaluate(held_out, loss))


def require_wrong_pairs(clips: Clips, negatives: str) -> None:
    """Raise SettingsError for training clips among which no sound is ever wrong."""
    if len(set(clips.sources)) < 2:
        raise SettingsError(
            f"the {len(clips)} training clips are of one video, whose sounds are wrong for none of "
            "its pictures; take more videos"
        )
    if negatives == "classes" and set.intersection(*[set(own) for own in clips.labels]):
        raise SettingsError(
            f"all {len(clips)} training clips share a label ({clips.labels[0]}), so no sound is "
            f"wrong; use stages.{NAME}.negatives=clips"
        )


def apart(sources: list[str], labels: list[list[str]]) -> Tensor:
    """Return which pairs do not belong together, bool [B, B]: of other videos, no label shared."""
    own = [set(names) for names in labels]
    rows = [
        [a != b and x.isdisjoint(y) for b, y in zip(sources, own, strict=True)]
        for a, x in zip(sources, own, strict=True)
    ]
    return torch.tensor(rows)


if __name__ == "__main__":
    launch(NAME, Settings, train)
