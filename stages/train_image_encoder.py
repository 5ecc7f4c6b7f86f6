"""Teach an image encoder without labels: python -m stages.train_image_encoder PIPELINE.yaml

By SwAV: two large and several small crops of a picture are to be given to the same prototypes;
which, is decided by an assignment in equal shares over the batch and a queue of earlier embeddings
(Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
NeurIPS 2020).

The image encoder in it is what other stages use: `frozen_encoder.load_image_encoder`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.errors import SettingsError
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.lars import Lars
from stages.engine.launch import launch
from stages.engine.meters import gather
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.image_encoder.augment import Distortion, distort, random_crop
from stages.image_encoder.model import SwAV
from stages.losses.swav import Queue, swapped_prediction
from stages.metrics.neighbour_vote import neighbour_votes
from stages.nn.published import load_published
from stages.pairs.classes import read_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Random crops of one size."""

    count: int = setting(2, "How many of each picture.")
    size_px: int = setting(224, "Side of the crop after resizing.")
    min_area: float = setting(0.14, "Smallest share of the picture's area.")
    max_area: float = setting(1.0, "Largest share of the picture's area.")

    def __post_init__(self) -> None:
        if self.count < 0 or self.size_px < 1:
            raise ValueError(
                f"count must be 0 or more and size_px 1 or more, got {self.count}, {self.size_px}"
            )
        if not 0 < self.min_area <= self.max_area <= 1:
            raise ValueError(
                "min_area and max_area must rise within (0, 1], got "
                f"{self.min_area} and {self.max_area}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallCrops(Crops):
    """The small crops, which are predicted and never assigned."""

    count: int = setting(6, "How many of each picture; 0 for none.")
    size_px: int = setting(96, "Side of the crop after resizing.")
    min_area: float = setting(0.05, "Smallest share of the picture's area.")
    max_area: float = setting(0.14, "Largest share of the picture's area.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As all trainers, with SwAV's batch of small machines."""

    epochs: int = setting(400, "How often the training split is gone through.")
    batch_size: int = setting(256, "Clips of one update, over all GPUs and micro-batches together.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """SwAV for batches of 256, as published; for 4096: lr 4.8, final_lr 0.0048, epsilon 0.05, no
    queue, prototypes frozen and the rate warmed up for an epoch and ten."""

    train: Train = section(Train, "Length, batch, precision, checkpoints.")
    arch: Literal["resnet50", "resnet18", "tiny"] = setting("resnet50", "Trunk.")
    width: int | None = setting(None, "Channels of its first layer; null: the trunk's own.")
    hidden_dim: int | None = setting(None, "Width of the projection; null: that of the features.")
    embed_dim: int = setting(128, "Length of an embedding.")
    n_prototypes: int = setting(3000, "Clusters.")
    published: str | None = setting(
        None,
        "SwAV checkpoint to start from, in the published layout; null: from nothing.",
        path=True,
    )
    source_px: int | None = setting(
        256, "Side to which pictures are read before they are cropped; null: as they are stored."
    )
    frame: Literal["best", "random"] = setting(
        "random", "The frame that matches the sound best, or any of the clip's stored ones."
    )
    large: Crops = section(Crops, "The crops that are assigned.")
    small: SmallCrops = section(SmallCrops, "More crops, that are predicted.")
    distortion: Distortion = section(Distortion, "Changes of colour and sharpness.")
    temperature: float = setting(0.1, "Of the softmax of the predictions.")
    epsilon: float = setting(0.03, "Entropy of the assignment; smaller is harder.")
    sinkhorn_iterations: int = setting(3, "Rounds of balancing the assignment.")
    queue: int = setting(3840, "Earlier embeddings that take part, over all GPUs; 0: none.")
    queue_from_epoch: int = setting(15, "Epoch, from 0, in which the queue begins to fill.")
    freeze_prototypes_steps: int = setting(5005, "Updates in which the prototypes stay.")
    optimizer: Literal["lars", "adamw"] = setting("lars", "LARS as published; AdamW for small.")
    lr: float = setting(0.6, "Peak learning rate.")
    final_lr: float = setting(0.0006, "Learning rate at the end of the cosine.")
    warmup_steps: int = setting(0, "Updates in which the rate rises from 0.")
    weight_decay: float = setting(1e-6, "Decay of the weights.")
    held_out: str | None = setting(
        None,
        "Split whose labels are told from those of the training split by nearest neighbours, as "
        "an evaluation (val_top1); null: none, no labels are read.",
    )

    def __post_init__(self) -> None:
        if self.large.count < 1 or self.large.count + self.small.count < 2:
            raise ValueError("large.count must be 1 or more, and 2 or more with small.count")
        bounded(self, "width", "hidden_dim", "embed_dim", "n_prototypes", "source_px", above=0)
        bounded(self, "temperature", "epsilon", "sinkhorn_iterations", above=0)
        bounded(self, "queue", "queue_from_epoch", "freeze_prototypes_steps", least=0)
        bounded(self, "lr", "final_lr", "warmup_steps", "weight_decay", least=0)


def train(run: Run[Settings]) -> None:
    """Train an image encoder by SwAV."""
    settings = run.settings
    if settings.train.strategy == "fsdp":
        raise SettingsError("SwAV's prototypes are normalised as a whole; set train.strategy=ddp")
    view = View(only="image", image_size_px=settings.source_px, frame=settings.frame)
    batches = run.batches("train", view=view, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    architecture = {
        name: getattr(settings, name)
        for name in ("arch", "width", "hidden_dim", "embed_dim", "n_prototypes")
    }
    network = SwAV(**architecture)
    if settings.published is not None:
        load_published(network, "swav", settings.published)
    if run.world_size > 1 and run.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    card = ModelCard(name="swav", settings=architecture)
    model = run.model("model", network, card=card, ema=True)
    optimizer = run.optimizer("optimizer", make_optimizer(settings, network))
    queue = None
    if length := settings.queue // run.world_size:
        queue = Queue(length, settings.embed_dim, settings.large.count).to(run.device)
        run.state("queue", RankQueues(run.fabric, queue))

    def loss(batch: TensorBatch) -> Tensor:
        z, scores = model(multi_crop(batch.image, settings, run.generator))  # [V, B, ...]
        queued = None
        if queue is not None and batches.epoch >= settings.queue_from_epoch:
            if queue.full:
                queued = F.linear(queue.embeddings, network.prototypes.weight.detach())
            queue.push(z.detach())
        return swapped_prediction(
            scores,
            queued,
            n_assigned=settings.large.count,
            temperature=settings.temperature,
            epsilon=settings.epsilon,
            iterations=settings.sinkhorn_iterations,
        )

    for step in run.steps(batches):
        network.normalise_prototypes()
        values = run.backward(model, batches, loss)
        if step <= settings.freeze_prototypes_steps:
            network.prototypes.weight.grad = None
        lr = warmup_cosine(
            step,
            run.total_steps,
            settings.lr,
            warmup=settings.warmup_steps,
            final=settings.final_lr,
        )
        norm = run.update(optimizer, lr=lr)
        run.log({**values, "grad_norm": norm, "lr": lr})
        if settings.held_out is not None and run.evaluation_due:
            run.log_evaluation({"val_top1": neighbours_agree(run, network, settings.held_out)})


def make_optimizer(settings: Settings, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser over all weights."""
    if settings.optimizer == "adamw":
        return adamw(network, lr=settings.lr, weight_decay=settings.weight_decay)
    return Lars(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)


def multi_crop(pictures: Tensor, settings: Settings, generator: torch.Generator) -> list[Tensor]:
    """Return the views of pictures [B, 3, H, W] in [0, 1], large ones first, normalised."""
    mean = torch.tensor(IMAGENET_MEAN, device=pictures.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=pictures.device).view(3, 1, 1)
    views = []
    for crops in (settings.large, settings.small):
        for _ in range(crops.count):
            area = (crops.min_area, crops.max_area)
            seen = random_crop(pictures, crops.size_px, area, generator)
            views.append((distort(seen, settings.distortion, generator) - mean) / std)
    return views


@dataclass(frozen=True, slots=True)
class RankQueues:
    """Every rank's own queue as one state; with another number of ranks they begin empty."""

    fabric: Fabric
    queue: Queue

    def state_dict(self) -> dict[str, Any]:
        own = {name: value.cpu() for name, value in self.queue.state_dict().items()}
        return {"queues": gather(self.fabric, own)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        if len(state["queues"]) == self.fabric.world_size:
            self.queue.load_state_dict(state["queues"][self.fabric.global_rank])


def neighbours_agree(run: Run[Settings], network: SwAV, held_out: str) -> float:
    """Return the share of held-out clips whose class their neighbours in the training split tell.

    Clips without a label of the training split are left out.
    """
    classes = read_classes(run.shards, "train", source="labels")
    found = []
    with run.evaluating():
        for split in ("train", held_out):
            view = View(only="image", image_size_px=run.settings.large.size_px)
            keys, features = encode_all(network, run.held_out(split, view=view))
            parts = gather(run.fabric, (keys, features))
            keys = [key for part, _ in parts for key in part]
            targets = classes.targets(keys).numpy()
            known = targets.any(axis=1)
            found.append((np.concatenate([part for _, part in parts])[known], targets[known]))
    (features, targets), (queries, truth) = found
    if not len(queries):
        raise SettingsError(f"no clip of split {held_out} has a label of the training split")
    chosen = neighbour_votes(queries, features, targets).argmax(axis=1)
    return float((truth[np.arange(len(truth)), chosen] > 0).mean())


def encode_all(
    network: SwAV, batches: Iterable[TensorBatch]
) -> tuple[list[str], np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the keys and the image encoder's features [N, D] of all batches."""
    keys: list[str] = []
    parts = [np.zeros((0, network.encoder.out_dim), np.float32)]
    for batch in batches:
        keys += batch.keys
        parts.append(network.encoder(batch.image).float().cpu().numpy())
    return keys, np.concatenate(parts)


if __name__ == "__main__":
    launch("train_image_encoder", Settings, train)
