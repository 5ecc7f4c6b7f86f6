"""Teach Inception-v3 the classes of a set of shards: python -m stages.train_inception PIPELINE.yaml

The papers measure FID and the Inception score by a network that was trained on VGGSound's classes,
not on ImageNet's. This fine-tunes the network of the first FID (Heusel et al. 2017) on the frames
and labels of the training split. `stages.evaluate` takes the folder as its Inception.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata import weights
from avdata.shards.views import View
from avdata.store import Store
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.launch import launch
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.nn.inception import IMAGE_PX, InceptionV3, load_trunk
from stages.nn.published import read_tensors
from stages.pairs.classes import Classes, read_classes

MIN_PX = 75  # below this the last layers have nothing left to see
LEVEL = 128 / 255  # mean and std alike: the network sees (x - 128) / 128
CLASSES_NAME = "classes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As all trainers; fine-tuning takes few epochs."""

    epochs: int = setting(20, "How often the training split is gone through.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Fine-tuning on labels."""

    train: Train = section(Train, "Length, batch, precision, checkpoints.")
    start: Literal["fid", "nothing"] = setting(
        "fid", "Begin with the weights that FID uses, or with random ones."
    )
    weights: str | None = setting(
        None, "pt_inception file to start from; null: FID's own, from the weights table.", path=True
    )
    classes: Literal["auto", "labels", "yamnet"] = setting(
        "labels", "Labels of the manifest, or YAMNet's best tag where there are none."
    )
    min_clips: int = setting(1, "Classes with fewer training clips are left out.")
    source_px: int = setting(
        IMAGE_PX, "Side at which pictures are read; the shards must hold as much."
    )
    input_px: int = setting(IMAGE_PX, "Side at which the network sees them; enlarged if need be.")
    frame: Literal["best", "random"] = setting(
        "random", "For training: the best frame, or any of the clip's stored ones."
    )
    min_area: float = setting(0.25, "Smallest share of a picture that a training crop shows.")
    dropout: float = setting(0.2, "Before the class head.")
    label_smoothing: float = setting(0.1, "Share of a target that goes to all classes.")
    lr: float = setting(1e-4, "Peak learning rate.")
    warmup_steps: int = setting(500, "Updates in which the rate rises from 0.")
    weight_decay: float = setting(1e-4, "Decay of the weights, without biases and norms.")
    held_out: str | None = setting("val", "Split for val_loss and val_top1; null: none.")

    def __post_init__(self) -> None:
        if self.input_px < MIN_PX:
            raise ValueError(f"Inception-v3 needs input_px of {MIN_PX} or more: {self.input_px}")
        for name in ("min_area", "dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        bounded(self, "min_area", "min_clips", "source_px", above=0)
        bounded(self, "lr", "warmup_steps", "weight_decay", least=0)


def train(run: Run[Settings]) -> None:
    """Fine-tune Inception-v3 on the classes of the shards."""
    settings = run.settings
    classes = read_classes(run.shards, source=settings.classes, min_clips=settings.min_clips)
    level = (LEVEL, LEVEL, LEVEL)
    plain = View(only="image", image_size_px=settings.source_px)
    area = (settings.min_area, 1.0)
    varied = replace(plain, crop_area=area, flip=True, frame=settings.frame)
    batches = run.batches("train", view=varied, mean=level, std=level)
    held_out = None
    if settings.held_out is not None:
        held_out = run.held_out(settings.held_out, view=plain, mean=level, std=level)

    architecture = {"n_classes": len(classes.names), "dropout": settings.dropout}
    network = InceptionV3(n_classes=len(classes.names), dropout=settings.dropout)
    if settings.start == "fid":
        load_trunk(network, starting_weights(settings.weights))
    card = ModelCard(name="inception", settings=architecture)
    model = run.model("inception", network, card=card, ema=True)
    optimizer = run.optimizer(
        "optimizer", adamw(model, lr=settings.lr, weight_decay=settings.weight_decay)
    )

    def loss(batch: TensorBatch) -> dict[str, Tensor]:
        pictures = enlarged(batch.image, settings.input_px)
        targets = classes.targets(batch.keys).to(run.device)
        return classification(model(pictures), targets, settings.label_smoothing)

    for step in run.steps(batches):
        values = run.backward(model, batches, loss)
        lr = warmup_cosine(step, run.total_steps, settings.lr, warmup=settings.warmup_steps)
        norm = run.update(optimizer, lr=lr)
        run.log({**values, "grad_norm": norm, "lr": lr})
        if held_out is not None and run.evaluation_due:
            run.log_evaluation(run.evaluate(held_out, loss))

    if run.is_main:
        record(Store(str(run.folder)), classes)


def starting_weights(path: str | None) -> dict[str, Tensor]:
    """Return the tensors of a file, or else of FID's standard network; raises WeightsError."""
    if path is not None:
        return read_tensors(path)
    script: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
        weights.path("fid_inception"), map_location="cpu"
    )
    return dict(script.state_dict())


def record(store: Store, classes: Classes) -> None:
    """Write which class stands at which place of the head."""
    content = {"names": classes.names, "source": classes.source}
    store.write_bytes(CLASSES_NAME, json.dumps(content, indent=1, ensure_ascii=False).encode())


def enlarged(pictures: Tensor, side_px: int) -> Tensor:
    """Return pictures [B, 3, H, W] at [B, 3, side_px, side_px], bicubic where they differ."""
    if pictures.shape[2:] == (side_px, side_px):
        return pictures
    size = (side_px, side_px)
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True).clamp(-1, 1)


def classification(logits: Tensor, targets: Tensor, smoothing: float) -> dict[str, Tensor]:
    """Return the cross-entropy and the share of clips whose best class is one of theirs (top1).

    logits: [B, C]; targets: [B, C], whose rows sum to 1, or to 0 for clips without a class, which
    teach nothing and count as wrong. smoothing: share ε of a target that all C classes divide.
    """
    known = targets.sum(dim=1, keepdim=True)
    smooth = (1 - smoothing) * targets + smoothing / targets.shape[1] * known
    chosen = logits.argmax(dim=1, keepdim=True)
    return {
        "loss": -(smooth * logits.log_softmax(dim=1)).sum(dim=1).mean(),
        "top1": (targets.gather(1, chosen) > 0).float().mean(),
    }


if __name__ == "__main__":
    launch("train_inception", Settings, train)
