"""A small real trainer: it guesses from picture and loudness whether a clip is of an odd number.

python -m tests.stages.toy_trainer pipeline.yaml [--set ...] [--fresh]
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avdata.audio.spec import SOUND2SCENE
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.launch import launch
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings


class Toy(nn.Module):
    """Picture [B, 3, 16, 16] and sound [B, samples] to two logits [B, 2]."""

    def __init__(self, width: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width + 1, 2)

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        seen = self.norm(self.convolution(image)).relu().mean((2, 3))  # [B, width]
        heard = audio.square().mean(1, keepdim=True)  # [B, 1]
        return self.head(self.dropout(torch.cat([seen, heard], 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the toy may be told."""

    train: TrainSettings = section(TrainSettings, "Length, batch, precision, checkpoints.")
    lr: float = setting(0.01, "Peak learning rate.")
    width: int = setting(4, "Channels.")
    batch_norm: bool = setting(True, "Normalise by statistics of the batch.")
    dropout: float = setting(0.2, "Share of features dropped.")
    noise: float = setting(0.1, "Standard deviation of noise on the picture.")
    picture_px: int = setting(16, "Side of the picture.")
    hears_hz: int = setting(8000, "Sample rate of the front-end.")
    held_out: str = setting("test", "Split to evaluate on.")
    spoil_step: int | None = setting(None, "The loss of this step is NaN.")
    spoil_gradient_step: int | None = setting(None, "The gradient of this step is NaN.")
    spoil_weights_step: int | None = setting(None, "The update of this step overflows.")
    memory_step: int | None = setting(None, "At this step memory runs out.")


def train(run: Run[Settings]) -> None:
    """Train the toy."""
    settings = run.settings
    view = View(image_size_px=settings.picture_px, crop_area=(0.5, 1.0), flip=True)
    spec = replace(SOUND2SCENE, name="toy", sample_rate_hz=settings.hears_hz)
    batches = run.batches("train", view=view, audio=spec)
    held_out = run.held_out(settings.held_out, view=View(image_size_px=16), audio=spec)
    architecture = {
        "width": settings.width,
        "dropout": settings.dropout,
        "batch_norm": settings.batch_norm,
    }
    card = ModelCard(name="toy", settings=architecture, audio=spec)
    model = run.model("model", Toy(**architecture), card=card, ema=True)
    optimizer = run.optimizer("optimizer", adamw(model, lr=settings.lr, weight_decay=0.01))

    def loss(batch: TensorBatch) -> dict[str, Tensor]:
        target = torch.tensor([bool(labels) for labels in batch.labels], dtype=torch.int64)
        image = batch.image
        if model.training:
            image = image + settings.noise * torch.randn(
                image.shape, generator=run.generator, device=run.device
            )
        value = F.cross_entropy(model(image, batch.audio), target.to(run.device))
        if run.step == settings.spoil_gradient_step:  # whose derivative at 0 is infinite, times 0
            value = value + (0 * value).sqrt()
        return {"loss": value * float("nan") if run.step == settings.spoil_step else value}

    for step in run.steps(batches):
        accident(run)
        if step == settings.memory_step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        values = run.backward(model, batches, loss)
        lr = warmup_cosine(step, run.total_steps, settings.lr, warmup=2)
        run.log({**values, "grad_norm": run.update(optimizer, lr=lr), "lr": lr})
        if step == settings.spoil_weights_step:
            next(model.parameters()).data.fill_(float("inf"))
        if run.evaluation_due:
            run.log_evaluation(run.evaluate(held_out, loss))


def accident(run: Run[Any]) -> None:
    """Send the last process the signal that was asked for, if this is the step."""
    for name, number in (("TOY_KILLED_AT", signal.SIGKILL), ("TOY_TERMINATED_AT", signal.SIGTERM)):
        if run.step == int(os.environ.get(name, "0")) and run.rank == run.world_size - 1:
            os.kill(os.getpid(), number)


if __name__ == "__main__":
    launch("train_toy", Settings, train)
