"""A generator, an ear and a discriminator, as AVStyle trains them: two folders of shards, one
forward pass for all losses, two products.

python -m tests.stages.toy_style pipeline.yaml, or under torchrun.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avdata.audio.spec import SOUND2SCENE
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.launch import launch
from stages.engine.optim import adam
from stages.engine.run import Run
from stages.engine.settings import TrainSettings
from tests.stages.toy_trainer import accident

SIDE_PX = 8


class Ear(nn.Module):
    """Sound [B, samples] to a feature [B, 2]: what it hears in the low and in the loud parts."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, sound: Tensor) -> Tensor:
        return self.head(torch.stack([sound.mean(1), sound.square().mean(1)], 1))


class Painter(nn.Module):
    """Picture [B, 3, H, W] and feature [B, 2] to a picture; counts its forward passes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, width, 3, padding=1)
        self.style = nn.Linear(2, width)
        self.outer = nn.Conv2d(width, 3, 3, padding=1)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, picture: Tensor, heard: Tensor) -> Tensor:
        self.passes += 1
        return self.outer((self.inner(picture) + self.style(heard)[..., None, None]).relu())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Two folders."""

    train: TrainSettings = section(TrainSettings, "Length, batch, precision, checkpoints.")
    content_shards: str = setting("", "Folder of the unpaired pictures.")


@dataclass(frozen=True, slots=True)
class Painted:
    """A micro-batch, and what was made of it, with its graph."""

    heard: Tensor  # [B, 2]
    real: Tensor  # [B, 3, H, W]
    fake: Tensor  # [B, 3, H, W]
    same: Tensor  # [B, 3, H, W], painted from the picture that the sound belongs to


def train(run: Run[Settings]) -> None:
    """Paint pictures of one folder in the style of the sounds of another."""
    view = View(image_size_px=SIDE_PX)
    contents = run.batches(shards=run.settings.content_shards, name="contents", view=view)
    pairs = run.batches(name="pairs", view=view)
    painter = run.model(
        "painter", Painter(4), card=ModelCard(name="painter", settings={"width": 4}), ema=True
    )
    ear = run.model("ear", Ear(), card=ModelCard(name="ear", audio=SOUND2SCENE))
    critic = run.model("critic", nn.Conv2d(3, 1, SIDE_PX))
    g_optimizer = run.optimizer("painter and ear", adam(nn.ModuleList([painter, ear]), lr=0.01))
    d_optimizer = run.optimizer("critic", adam(critic, lr=0.01))

    def paint(batch: tuple[TensorBatch, TensorBatch]) -> Painted:
        content, pair = batch
        heard = ear(pair.audio)
        both = painter(torch.cat([content.image, pair.image]), torch.cat([heard, heard]))
        fake, same = both.chunk(2)
        return Painted(heard, pair.image, fake, same)

    def critic_loss(painted: Painted) -> dict[str, Tensor]:
        real, fake = critic(painted.real), critic(painted.fake.detach())
        return {"loss": (1 - real).relu().mean() + (1 + fake).relu().mean()}

    def painter_loss(painted: Painted) -> dict[str, Tensor]:
        adversarial = -critic(painted.fake).mean()
        identity = (painted.same - painted.real).abs().mean()
        return {"loss": adversarial + identity + painted.heard.square().mean(), "same": identity}

    for _ in run.steps(pairs):
        accident(run)
        painted = run.draw(zip(contents, pairs, strict=False), paint)
        scores = run.backward(critic, painted, critic_loss)
        run.update(d_optimizer)
        values = run.backward((painter, ear), painted, painter_loss)
        norm = run.update(g_optimizer)
        run.log({**values, "critic": scores["loss"], "grad_norm": norm})


if __name__ == "__main__":
    launch("train_toy", Settings, train)
