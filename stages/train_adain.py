"""Teach AdaIN to give one picture the style of another: python -m stages.train_adain PIPELINE.yaml

    frozen encoder   content, style → features; t = AdaIN(f(c), f(s))
    decoder          t → picture, whose features are t and have the style's moments

Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV
2017. stages/adain/README.md says how a sound names the style.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from avdata.errors import SettingsError
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.adain.model import AdaIn, Restyled
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.launch import launch
from stages.engine.optim import adam
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.losses.adain import content_loss, style_loss
from stages.nn.vgg import load_vgg19, plan

NAME = "train_adain"
HALF = (0.5, 0.5, 0.5)  # pictures in [-1, 1]
RANDOM = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As published: 160 000 updates of 8 pairs."""

    steps: int | None = setting(160_000, "Updates; null: `epochs`.")
    batch_size: int = setting(8, "Pairs of pictures of one update, over all processes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The encoder, the pictures and the weights of the losses."""

    train: Train = section(Train, "Length, batch, precision, checkpoints.")
    encoder: str = setting(
        "vgg19_normalised",
        "VGG-19: a file, or its name in the weights table (vgg19_normalised, vgg19_torchvision); "
        "random: its shape with random weights, for machines without a published one. The figures "
        "of papers are of vgg19_normalised.",
        path="optional",
    )
    width: int = setting(64, "Channels of the first level; other than 64 with `random` alone.")
    levels: int = setting(4, "Levels of the encoder; other than 4 with `random` alone.")
    content_shards: str | None = setting(
        None, "Folder of the pictures that are restyled; null: the training's own.", path="optional"
    )
    load_px: int = setting(512, "Side to which pictures are brought.")
    crop_px: int = setting(256, "Side of the part that is cut out of them at random.")
    frame: Literal["best", "random"] = setting("random", "Which of a clip's stored frames.")
    style_weight: float = setting(10.0, "Weight of the style loss; the content's is 1.")
    lr: float = setting(1e-4, "Learning rate of Adam at the first update.")
    lr_decay: float = setting(5e-5, "Its decay: lr / (1 + lr_decay i) at update i, from 0.")

    def __post_init__(self) -> None:
        bounded(self, "width", "levels", "load_px", "crop_px", "lr", above=0)
        bounded(self, "style_weight", "lr_decay", least=0)
        if self.encoder != RANDOM and (self.width, self.levels) != (64, 4):
            raise ValueError(
                f"VGG-19 has width 64 and 4 levels, got {self.width} and {self.levels}: leave "
                "them, or set encoder: random"
            )
        plan(self.width, self.levels)
        step = 2 ** (self.levels - 1)
        if self.crop_px % step or self.crop_px < 2 * step:
            raise ValueError(
                f"crop_px must be a multiple of {step}, {2 * step} at least, got {self.crop_px}"
            )
        if self.load_px < self.crop_px:
            raise ValueError(f"load_px {self.load_px} must be crop_px {self.crop_px} or more")


def train(run: Run[Settings]) -> None:
    """Train the decoder on random pairs of a picture and a style."""
    settings = run.settings
    view = View(
        only="image",
        image_size_px=settings.crop_px,
        load_size_px=settings.load_px,
        frame=settings.frame,
    )
    contents = run.batches(
        shards=settings.content_shards, name="contents", view=view, mean=HALF, std=HALF
    )
    styles = run.batches(name="styles", view=view, mean=HALF, std=HALF)

    network, architecture = start(settings)
    card = ModelCard(name="adain", settings=architecture)
    model = run.model("adain", network, card=card, ema=True)
    optimizer = run.optimizer("optimizer", adam(model, lr=settings.lr))

    def loss(batch: tuple[TensorBatch, TensorBatch]) -> dict[str, Tensor]:
        content, style = batch
        return losses(model(content.image, style.image), settings.style_weight)

    for step in run.steps(styles):
        values = run.backward(model, zip(contents, styles, strict=False), loss)
        lr = settings.lr / (1 + settings.lr_decay * (step - 1))
        norm = run.update(optimizer, lr=lr)
        run.log({**values, "grad_norm": norm, "lr": lr})


def losses(restyled: Restyled, style_weight: float) -> dict[str, Tensor]:
    """Return L_c + λ L_s and both."""
    content = content_loss(restyled.made[-1], restyled.target)
    style = style_loss(restyled.made, restyled.style)
    return {"loss": content + style_weight * style, "content": content, "style": style}


def start(settings: Settings) -> tuple[AdaIn, dict[str, Any]]:
    """Return the network, its encoder filled, and the arguments that make it again.

    Raises SettingsError or WeightsError where the encoder cannot be had.
    """
    side = settings.crop_px
    if settings.encoder == RANDOM:
        architecture: dict[str, Any] = {"width": settings.width, "levels": settings.levels}
        return AdaIn(**architecture, side_px=side), {**architecture, "side_px": side}
    if not settings.encoder:
        raise SettingsError(f"stages.{NAME}.encoder: name a file, vgg19_normalised, or random")
    encoder = load_vgg19(settings.encoder)
    network = AdaIn(kind=encoder.kind, side_px=side)
    network.encoder.load_state_dict(encoder.state_dict())
    return network, {"kind": encoder.kind, "side_px": side}


if __name__ == "__main__":
    launch(NAME, Settings, train)
