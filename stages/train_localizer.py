"""Teach the localizer to see and hear sound events: python -m stages.train_localizer PIPELINE.yaml

Nothing tells it where or when a source is in view. Several frames of a clip, and the sound around
each, are classified together (multiple instances: Dietterich et al., 1997): a clip shows its class
if any place of any frame does, so that frames which show nothing of it need not explain anything.
What then agrees with the sound, C[t] = q_V[t] · q_A[t], shows its source.

Writes localizer.onnx, which `avdata select` reads, beside the weights.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.audio.spec import LOCALIZER, AudioSpec
from avdata.errors import SettingsError
from avdata.frames import IMAGENET_STD
from avdata.shards.folder import open_folder, read_dataset
from avdata.shards.index import read_index
from avdata.shards.views import View
from avdata.store import Store
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard, load_model
from stages.engine.launch import launch
from stages.engine.optim import adamw, warmup_cosine
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.localizer.model import Localised, Localizer, export_onnx
from stages.models import build
from stages.nn.frontend import Frontend
from stages.pairs.classes import Classes, read_classes

ONNX_NAME = "localizer.onnx"
CLASSES_NAME = "classes.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the localizer is built and taught."""

    train: TrainSettings = section(TrainSettings, "Steps, batch, precision, checkpoints.")
    classes: Literal["auto", "labels", "yamnet"] = setting(
        "auto",
        "What to learn: the manifest's labels, each clip's best YAMNet class, or the labels if "
        "there are any.",
    )
    min_tag_score: float = setting(0.1, "Mean score from which on a YAMNet class counts.")
    min_clips: int = setting(1, "Classes with fewer clips are left out.")
    held_out: str | None = setting("val", "Split to evaluate on; null: none.")
    frames_per_clip: int = setting(4, "Frames of a clip that are classified together.")
    image_px: int = setting(224, "Side of the pictures.")
    patch_s: float = setting(1.0, "Length of the sound around each frame.")
    crop_area: tuple[float, ...] = setting((0.3, 1.0), "Share of the picture that is seen.")
    light: float = setting(0.2, "Most by which brightness and contrast are changed, 0 to 1.")
    gain_db: float = setting(6.0, "Most by which a clip is made louder or softer.")
    arch: Literal["tiny", "resnet18", "resnet50"] = setting("resnet18", "Both trunks.")
    width: int | None = setting(None, "Channels of a trunk's first layer; null: the arch's own.")
    embed_dim: int = setting(512, "Length of q_V and q_A.")
    pooling: Literal["attention", "average"] = setting(
        "attention", "What makes q_V of the places of a frame: those that agree with the sound."
    )
    temperature: float = setting(
        0.1, "Of the smooth maxima over places and frames: the lower, the fewer of them count."
    )
    scale: float | None = setting(
        None, "Of the cosines in the classifier; null: by the number of classes (AdaCos)."
    )
    lr: float = setting(1e-3, "Peak learning rate; warms up, then falls along a cosine.")
    weight_decay: float = setting(1e-2, "AdamW's.")
    warmup: float = setting(0.05, "Share of all steps in which the learning rate rises.")

    def __post_init__(self) -> None:
        bounded(self, "min_clips", "frames_per_clip", "image_px", "patch_s", above=0)
        bounded(self, "width", "embed_dim", "lr", above=0)
        bounded(self, "min_tag_score", "gain_db", "weight_decay", least=0)
        if len(self.crop_area) != 2 or not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(
                f"crop_area must be two shares that rise within (0, 1], got {self.crop_area}"
            )
        for name in ("light", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


def train(run: Run[Settings]) -> None:
    """Teach two networks, one that sees and one that hears, to name sound events."""
    settings = run.settings
    spec = patch_spec(settings.patch_s)
    classes = read_classes(
        run.shards,
        source=settings.classes,
        min_score=settings.min_tag_score,
        min_clips=settings.min_clips,
    )
    require_frames(run.shards, settings.frames_per_clip)
    low, high = settings.crop_area
    plain = View(image_size_px=settings.image_px, frame="even", n_frames=settings.frames_per_clip)
    view = replace(plain, frame="random", crop_area=(low, high), flip=True)
    batches = run.batches("train", view=view, audio=spec)
    held_out = None
    if settings.held_out is not None:
        held_out = run.held_out(settings.held_out, view=plain, audio=spec)

    architecture = {
        "n_classes": len(classes.names),
        "arch": settings.arch,
        "width": settings.width,
        "embed_dim": settings.embed_dim,
        "pooling": settings.pooling,
        "temperature": settings.temperature,
        "scale": settings.scale,
    }
    card = ModelCard(name="localizer", settings=architecture, audio=spec)
    network = build("localizer", **architecture)
    assert isinstance(network, Localizer)
    model = run.model("localizer", network, card=card, ema=True)
    optimizer = run.optimizer(
        "optimizer", adamw(model, lr=settings.lr, weight_decay=settings.weight_decay)
    )
    frontend = Frontend(spec).to(run.device)

    def loss(batch: TensorBatch) -> dict[str, Tensor]:
        patches = frontend(around_frames(batch, spec).flatten(0, 1))  # [B·T, 1, F, N]
        found: Localised = model(batch.image.flatten(0, 1), patches)
        targets = classes.targets(batch.keys).to(run.device)
        return classification(found, targets, network.scale * network.temperature)

    def varied_loss(batch: TensorBatch) -> dict[str, Tensor]:
        return loss(varied(batch, settings.light, settings.gain_db, run.generator))

    for step in run.steps(batches):
        values = run.backward(model, batches, varied_loss)
        warmup = round(settings.warmup * run.total_steps)
        lr = warmup_cosine(step, run.total_steps, settings.lr, warmup=warmup)
        norm = run.update(optimizer, lr=lr)
        run.log({**values, "grad_norm": norm})
        if held_out is not None and run.evaluation_due:
            run.log_evaluation(run.evaluate(held_out, loss))

    if run.is_main:
        best, _ = load_model(run.folder)
        assert isinstance(best, Localizer)
        record(Store(str(run.folder)), classes)
        export_onnx(best, spec, run.folder / ONNX_NAME, image_px=settings.image_px)


def patch_spec(patch_s: float) -> AudioSpec:
    """Return the localizer's front-end for this length; raises SettingsError below one window."""
    n_samples = round(patch_s * LOCALIZER.sample_rate_hz)
    try:
        return replace(LOCALIZER, name="localizer_patch", n_samples=n_samples)
    except ValueError as error:
        raise SettingsError(f"stages.train_localizer: patch_s: {error}") from None


def classification(found: Localised, targets: Tensor, sharpness: float) -> dict[str, Tensor]:
    """Return the losses and accuracies of B clips of T frames each.

        L = CE(M logits_V, y) + CE(M logits_A, y),   (M l)[c] = s log mean_t exp(l[t, c] / s)

    M is the smooth maximum over frames that the model takes over places, s its `sharpness` in
    logits. found: logits of [B·T, n_classes]; targets: y [B, n_classes], whose rows sum to 1, or
    to 0 for clips without a class, which teach nothing and count as wrong.
    """
    n_clips, n_classes = targets.shape
    values: dict[str, Tensor] = {}
    for name, logits in (("see", found.logits_v), ("hear", found.logits_a)):
        of_frames = logits.float().view(n_clips, -1, n_classes) / sharpness
        of_clips = sharpness * (of_frames.logsumexp(dim=1) - math.log(of_frames.shape[1]))
        right = targets.gather(1, of_clips.argmax(dim=1, keepdim=True)) > 0
        values[f"{name}_loss"] = -(targets * of_clips.log_softmax(dim=1)).sum(dim=1).mean()
        values[f"{name}_accuracy"] = right.float().mean()
    return {"loss": values["see_loss"] + values["hear_loss"], **values}


def around_frames(batch: TensorBatch, spec: AudioSpec) -> Tensor:
    """Return the sound [B, T, n_samples] that the localizer's contract gives each of T frames:
    n_samples around it, with silence beyond the clip."""
    assert batch.frame_times_s is not None
    padded = F.pad(batch.audio, (spec.n_samples // 2, spec.n_samples))
    windows = padded.unfold(1, spec.n_samples, 1)  # [B, n_windows, n_samples], a view
    starts = (batch.frame_times_s * spec.sample_rate_hz).round().long()
    starts = starts.clamp(0, windows.shape[1] - 1).to(windows.device)
    return windows[torch.arange(len(batch), device=windows.device)[:, None], starts]


def varied(
    batch: TensorBatch, light: float, gain_db: float, generator: torch.Generator
) -> TensorBatch:
    """Return the batch with the brightness and contrast of each frame changed, and the gain of
    each clip: factors uniform in 1 ± light, and decibels in ± gain_db."""
    shape = (*batch.image.shape[:2], 1, 1, 1)

    def uniform(size: tuple[int, ...]) -> Tensor:
        drawn = torch.rand(size, generator=generator, device=batch.image.device)
        return 2 * drawn - 1

    grey = batch.image.mean(dim=(2, 3, 4), keepdim=True)
    contrast = 1 + light * uniform(shape)
    brightness = light / min(IMAGENET_STD) * uniform(shape)
    image = grey + (batch.image - grey) * contrast + brightness
    gain = 10 ** (gain_db * uniform((len(batch), 1)) / 20)
    return replace(batch, image=image, audio=(batch.audio * gain).clamp(-1, 1))


def require_frames(shards: str, frames_per_clip: int) -> None:
    """Raise SettingsError if the clips of the shards hold fewer frames than are asked for."""
    store = open_folder(shards)
    frames = read_index(store, read_dataset(store), ["frames"]).column("frames")
    stored = pc.max(pc.list_value_length(frames)).as_py() or 0
    if stored < frames_per_clip:
        raise SettingsError(
            f"{frames_per_clip} frames of each clip are asked for, the clips in {shards} hold "
            f"{stored} at most: pack them again with --set steps.shard.frames=all, or lower "
            "frames_per_clip"
        )


def record(store: Store, classes: Classes) -> None:
    """Write the names of the classes in the order of the classifier, with their clips."""
    clips = Counter(number for own in classes.of_clip.values() for number in own)
    tree: dict[str, Any] = {
        "source": classes.source,
        "classes": [
            {"name": name, "clips": clips[number]} for number, name in enumerate(classes.names)
        ],
    }
    store.write_bytes(CLASSES_NAME, json.dumps(tree, indent=1).encode())


if __name__ == "__main__":
    launch("train_localizer", Settings, train)
