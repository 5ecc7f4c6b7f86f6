"""Teach a small CLIP on the frames of shards: python -m stages.train_clip pipelines/x.yaml

Where no published model fits, or none can be had: two towers learn which caption stands under which
frame; captions are class names in prompts. The training's folder is a model of transformers, for
`CLIPModel.from_pretrained` and for all that takes a CLIP here. Radford et al., Learning
Transferable Visual Models From Natural Language Supervision, ICML 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.errors import SettingsError
from avdata.shards.views import View
from avdata.store import Store
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.launch import launch
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.losses.info_nce import label_info_nce
from stages.models import build
from stages.pairs.classes import Classes, read_classes
from stages.text_image.captions import Captions, captions, require_prompts
from stages.text_image.files import require_transformers
from stages.text_image.model import read_tokenizer
from stages.text_image.sight import CLIP_MEAN, CLIP_STD
from stages.text_image.towers import Towers
from stages.text_image.vocabulary import Pair, learn_merges, numbers, write_json, write_tokenizer

NAME = "train_clip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As all trainers; a small world is soon learnt."""

    epochs: int = setting(20, "How often the training split is gone through.")
    batch_size: int = setting(64, "Clips of one update; each is wrong for those of other classes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The towers, what they see and read."""

    train: Train = section(Train, "Length, batch, precision, checkpoints.")
    classes: Literal["auto", "labels", "yamnet"] = setting(
        "auto", "Labels of the manifest, YAMNet's best tag, or labels where there are any."
    )
    min_clips: int = setting(1, "Classes with fewer training clips are left out.")
    prompts: tuple[str, ...] = setting(
        ("{}", "a photo of {}", "a picture of {}", "a scene of {}", "the look of {}"),
        "What captions are made of; {} is the class. The first is what val_loss reads.",
    )
    merges: int = setting(2000, "Pieces of words in the vocabulary, at most, beside all bytes.")
    max_tokens: int = setting(77, "Tokens of the longest text.")
    image_px: int = setting(64, "Side to which pictures are squashed.")
    patch_px: int = setting(8, "Side of the patches that the picture tower reads.")
    dim: int = setting(128, "Features of a picture, and of a text.")
    width: int = setting(128, "Channels of the picture tower.")
    layers: int = setting(4, "Layers of the picture tower.")
    text_width: int = setting(128, "Channels of the text tower.")
    text_layers: int = setting(2, "Layers of the text tower.")
    heads: int = setting(4, "Attention heads of each layer.")
    min_area: float = setting(0.5, "Smallest share of a picture that a training crop shows.")
    flip: bool = setting(True, "Mirror every second training picture.")
    frame: Literal["best", "random"] = setting(
        "random", "For training: the best frame, or any of the clip's stored ones."
    )
    lr: float = setting(1e-3, "Peak learning rate.")
    warmup_steps: int = setting(50, "Updates in which the rate rises from 0.")
    weight_decay: float = setting(0.05, "Decay of the weights, without biases and norms.")
    held_out: str | None = setting("val", "Split for val_loss and val_top1; null: none.")

    def __post_init__(self) -> None:
        require_prompts(self.prompts)
        bounded(self, "image_px", "patch_px", "dim", "width", "layers", "text_width", above=0)
        bounded(self, "text_layers", "heads", "min_area", "min_clips", above=0)
        bounded(self, "lr", "warmup_steps", "weight_decay", "merges", least=0)
        bounded(self, "max_tokens", least=3)
        if self.min_area > 1:
            raise ValueError(f"min_area must lie in (0, 1], got {self.min_area}")


def train(run: Run[Settings]) -> None:
    """Teach the two towers."""
    settings = run.settings
    if settings.train.strategy == "fsdp":
        raise SettingsError("a small CLIP is not divided: use train.strategy auto or ddp")
    require_transformers()
    classes = read_classes(run.shards, source=settings.classes, min_clips=settings.min_clips)
    plain = View(only="image", image_size_px=settings.image_px)
    area = (settings.min_area, 1.0)
    varied = replace(plain, crop_area=area, flip=settings.flip, frame=settings.frame)
    batches = run.batches("train", view=varied, mean=CLIP_MEAN, std=CLIP_STD)
    held_out = None
    if settings.held_out is not None:
        held_out = run.held_out(settings.held_out, view=plain, mean=CLIP_MEAN, std=CLIP_STD)

    texts = captions(classes.names, settings.prompts)
    merges = learn_merges(texts, settings.merges)
    words = read_captions(texts, merges, settings).to(run.device)
    architecture: dict[str, Any] = {
        "vocabulary": len(numbers(merges)),
        **{name: getattr(settings, name) for name in ("image_px", "patch_px", "dim", "width")},
        **{name: getattr(settings, name) for name in ("layers", "text_width", "text_layers")},
        **{name: getattr(settings, name) for name in ("heads", "max_tokens")},
    }
    network = build("clip_towers", **architecture)
    assert isinstance(network, Towers)
    model = run.model("clip", network, card=ModelCard(name="clip_towers", settings=architecture))
    optimizer = run.optimizer(
        "optimizer", adamw(model, lr=settings.lr, weight_decay=settings.weight_decay)
    )

    def loss(batch: TensorBatch) -> dict[str, Tensor]:
        labels = drawn_labels(classes, batch.keys, run.generator)
        ids, mask = words.drawn(labels.clamp(min=0), run.generator)
        seen, read, scale = model(batch.image, ids, mask)
        return {"loss": label_info_nce(seen, read, labels, scale), "scale": scale}

    def named(batch: TensorBatch) -> dict[str, Tensor]:
        seen, read, scale = model(batch.image, *words.first())
        return classified(scale * seen @ read.T, classes.targets(batch.keys).to(run.device))

    laid_out = False
    for step in run.steps(batches):
        if not laid_out and run.is_main:
            # Only here is it known that what was trained before is gone on with, and not refused.
            lay_out(Store(str(run.folder)), network, merges)
        laid_out = True
        values = run.backward(model, batches, loss)
        lr = warmup_cosine(step, run.total_steps, settings.lr, warmup=settings.warmup_steps)
        norm = run.update(optimizer, lr=lr)
        run.log({**values, "grad_norm": norm, "lr": lr})
        if held_out is not None and run.evaluation_due:
            run.log_evaluation(run.evaluate(held_out, named))


def read_captions(texts: list[str], merges: list[Pair], settings: Settings) -> Captions:
    """Return the captions as tokens of the vocabulary that these merges make."""
    with TemporaryDirectory() as folder:
        write_tokenizer(Store(folder), merges, max_tokens=settings.max_tokens)
        tokenizer = read_tokenizer(Path(folder))
    return Captions.of(
        texts, tokenizer, prompts=len(settings.prompts), max_tokens=settings.max_tokens
    )


def drawn_labels(classes: Classes, keys: list[str], rng: torch.Generator) -> Tensor:
    """Return the class of each clip [B], int64: any of its own, drawn; -1 if it has none."""
    draw = torch.rand(len(keys), generator=rng, device=rng.device)
    found = [
        own[min(int(at * len(own)), len(own) - 1)] if own else -1
        for at, own in zip(draw.tolist(), (classes.of_clip[key] for key in keys), strict=True)
    ]
    return torch.tensor(found, device=rng.device)


def classified(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return cross-entropy and share of right answers over clips with a class.

    logits: [B, C]; targets [B, C]: a clip's classes share 1, zeros if it has none.
    """
    known = targets.sum(dim=1)
    count = known.sum().clamp(min=1)
    loss = F.cross_entropy(logits, targets, reduction="none").sum() / count
    right = targets.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0] > 0
    return {"loss": loss, "top1": right.float().sum() / count}


def lay_out(store: Store, network: Towers, merges: list[Pair]) -> None:
    """Write beside the weights to come what makes their folder a model of transformers.

    Pictures are squashed by the bilinear filter, as the loader brought them to the towers.
    """
    config = network.config
    write_json(store, "config.json", {**config.to_dict(), "dtype": "float32"})
    write_tokenizer(store, merges, max_tokens=config.text_config.max_position_embeddings)
    side_px = config.vision_config.image_size
    sight = {
        "image_processor_type": "CLIPImageProcessor",
        "do_center_crop": False,
        **{"do_resize": True, "size": {"height": side_px, "width": side_px}, "resample": 2},
        **{"do_rescale": True, "do_normalize": True},
        **{"image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    }
    write_json(store, "preprocessor_config.json", sight)


if __name__ == "__main__":
    launch(NAME, Settings, train)
