"""Teach a sound encoder to land in the space of a text-image model (sound-guided manipulation).

    python -m stages.train_sound_clip pipelines/x.yaml [--set stages.train_sound_clip.lr=1e-4]

    frozen text-image model    texts, frames → unit vectors, once for each, then from a cache
    sound encoder              sound → mel spectrogram → a, drawn to its text and pictures

Lee et al., Robust Sound-Guided Image Manipulation, Neural Networks 2024.
stages/sound_guided/README.md says what the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError, WeightsError
from avdata.strict import section, setting, to_tree
from stages.engine.checkpoint import ModelCard, checkpoints, read_metadata
from stages.engine.errors import CheckpointError
from stages.engine.fabric import prepared
from stages.engine.launch import launch, stage_folder
from stages.engine.optim import adam, cosine_restarts
from stages.engine.rng import generator_for
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.models import build
from stages.nn.frontend import Frontend
from stages.sound_guided.embedder import MODEL
from stages.sound_guided.initial import start_from
from stages.sound_guided.objective import Features, Scales, Terms, sound_clip_loss, zero_shot
from stages.sound_guided.sound_augment import SoundAugment, SoundAugmentSettings
from stages.sound_guided.sound_encoder import SoundEncoder, audio_spec
from stages.sound_guided.sound_pairs import SoundBatch, SoundData, SoundSettings
from stages.sound_guided.spec_augment import SpecAugment, SpecAugmentSettings
from stages.sound_guided.texts import TextSettings
from stages.text_image.model import DEFAULT, TextImage

NAME = "train_sound_clip"
AT_ONCE = 32  # clips whose spectra, in double precision, are in memory at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As the paper trains: 50 epochs in batches of 384."""

    batch_size: int = setting(384, "Clips of one update, over all GPUs: all contrast with all.")
    keep_best: str | None = setting("val_loss", "Evaluated metric that names the best checkpoint.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The sound encoder, what it hears, and what draws it where."""

    train: Train = section(Train, "Steps, batch, precision, checkpoints.")
    data: SoundSettings = section(SoundSettings, "Which clips, and with which frames.")
    texts: TextSettings = section(TextSettings, "What is said of a clip.")
    terms: Terms = section(Terms, "What the loss consists of.")
    sound_augment: SoundAugmentSettings = section(
        SoundAugmentSettings, "How a sound is changed to be heard otherwise (â)."
    )
    spec_augment: SpecAugmentSettings = section(
        SpecAugmentSettings, "What is hidden of spectrograms."
    )
    spec_augmented: Literal["other", "both", "none"] = setting(
        "other", "Whose spectrograms are hidden in part: those of â, those of a too, or none."
    )
    clip: str | None = setting(
        None,
        "Text-image model: a folder, a name of the weights table or the hub; null: of this "
        f"pipeline's train_clip, and {DEFAULT} where there is none.",
        path="optional",
    )
    arch: Literal["swin_t", "resnet18", "tiny"] = setting(
        "swin_t", "swin_t: as the paper; resnet18: as its forerunner of CVPR 2022; tiny: for a CPU."
    )
    width: int | None = setting(None, "Channels of the first layer of tiny; null: 16.")
    reference: Literal["fixed", "relative"] = setting(
        "fixed",
        "What decibels are relative to: fixed, so that loudness is heard; relative: to each "
        "sound's own maximum, as the public code has it.",
    )
    duration_s: float = setting(10.0, "Seconds heard: cut, or filled up with silence.")
    sample_rate_hz: int = setting(44_100, "Of the shards, and of the front-end.")
    init_from: str | None = setting(
        None,
        "Start from a training's folder or file, or from weights of ImageNet: Swin-T in the layout "
        "of timm or transformers (a path, or swin_t_imagenet of the weights table), ResNet-18 in "
        "torchvision's.",
        path="optional",
    )
    lr: float = setting(1e-3, "Peak learning rate of Adam.")
    beta1: float = setting(0.9, "Adam's first decay, which the paper calls momentum.")
    weight_decay: float = setting(1e-4, "Weight decay of Adam, as L2 in the gradient.")
    restart_epochs: float = setting(10.0, "Epochs after which the cosine schedule starts over.")

    def __post_init__(self) -> None:
        bounded(self, "lr", "duration_s", "sample_rate_hz", "restart_epochs", "width", above=0)
        bounded(self, "weight_decay", least=0)
        if not 0 <= self.beta1 < 1:
            raise ValueError(f"beta1 must lie in [0, 1), got {self.beta1}")
        if self.train.accumulate > 1:
            raise ValueError(
                "the loss contrasts the whole batch, so train.accumulate must be 1, got "
                f"{self.train.accumulate}; use more GPUs or bf16 where memory is short"
            )


def train(run: Run[Settings]) -> None:
    """Train a sound encoder whose vectors lie beside those of texts and pictures."""
    settings = run.settings
    spec = front_end(settings)
    text_image = open_text_image(run)
    pictures = settings.terms.image or settings.terms.weak != "none"
    data = SoundData(run, settings.data, settings.texts, text_image, spec, pictures=pictures)
    if cut := text_image.cut_off(data.texts.texts):
        run.note(
            f"{len(cut)} of {len(data.texts)} texts have more than {text_image.max_tokens} tokens, "
            f"and the rest of them is not read: {cut[0][:60]!r} …"
        )
    batches = data.batches()

    architecture = {"arch": settings.arch, "dim": text_image.dim, "width": settings.width}
    encoder = build(MODEL, **architecture)
    assert isinstance(encoder, SoundEncoder)
    if settings.init_from is not None:
        left_out = start_from(encoder, settings.init_from)
        run.note(f"the sound encoder starts from {settings.init_from}{_without(left_out)}")
    space = to_tree(text_image.fingerprint())
    card = ModelCard(
        name=MODEL,
        settings=architecture,
        audio=spec,
        features={"name": text_image.name, "space": space},
    )
    require_same_space(run, space, text_image.name)
    encoder = prepared(run.fabric, encoder, sync_batch_norm=True)
    model = run.model("sound_encoder", encoder, card=card, ema=True)
    scales = run.model("scales", Scales(settings.terms)) if has_scales(settings.terms) else None
    optimizer = adam(
        model,
        lr=settings.lr,
        betas=(settings.beta1, 0.999),
        weight_decay=settings.weight_decay,
    )
    if scales is not None:  # temperatures do not decay
        optimizer.add_param_group({"params": list(scales.parameters()), "weight_decay": 0.0})
    optimizer = run.optimizer("optimizer", optimizer)
    hear = Hearing(settings, Frontend(spec).to(run.device))
    trained = [model] if scales is None else [model, scales]

    def loss(batch: SoundBatch, generator: torch.Generator = run.generator) -> dict[str, Tensor]:
        heard = model(hear(batch.sound, generator))
        a, other = heard.chunk(2) if settings.terms.sound else (heard, None)
        features = Features(a, other, batch.text, batch.image, batch.weak, batch.labels)
        learned = {} if scales is None else scales()
        values = sound_clip_loss(features, learned, settings.terms)
        told = {f"scale_{name}": value.detach() for name, value in learned.items()}
        return {**values, **told, "zero_shot": zero_shot(a.detach(), data.classes, batch.labels)}

    for step in run.steps(batches):
        values = run.backward(trained, batches, loss)
        period = settings.restart_epochs * len(batches)
        norm = run.update(optimizer, lr=cosine_restarts(step, period, settings.lr))
        run.log({**values, "grad_norm": norm})
        if run.evaluation_due:
            fixed = generator_for(run.seed, NAME, f"held out, rank {run.rank}", run.device)
            run.log_evaluation(run.evaluate(data.held_out(), partial(loss, generator=fixed)))


class Hearing:
    """Sounds as the encoder is shown them: those that are to be heard otherwise come second."""

    def __init__(self, settings: Settings, frontend: Frontend) -> None:
        self.frontend = frontend
        self.paired = settings.terms.sound
        self.change = SoundAugment(settings.sound_augment)
        self.hide = SpecAugment(settings.spec_augment)
        self.hidden = settings.spec_augmented

    @torch.no_grad()
    def __call__(self, sound: Tensor, generator: torch.Generator) -> Tensor:
        """Return spectrograms [B, 1, F, T], or [2 B, 1, F, T] with the pairs â, of int16 [B, n]."""
        seen = [self._spectrograms(sound)]
        if self.hidden == "both":
            seen[0] = self.hide(seen[0], generator)
        if self.paired:
            other = self._spectrograms(self.change(sound.float() / 32768, generator))
            seen.append(other if self.hidden == "none" else self.hide(other, generator))
        return torch.cat(seen)

    def _spectrograms(self, sound: Tensor) -> Tensor:
        return torch.cat([self.frontend(part) for part in torch.split(sound, AT_ONCE)])


def front_end(settings: Settings) -> AudioSpec:
    """Return the front-end that the settings name; raises SettingsError for one too short."""
    try:
        return audio_spec(
            settings.reference,
            duration_s=settings.duration_s,
            sample_rate_hz=settings.sample_rate_hz,
        )
    except ValueError as error:
        raise SettingsError(f"stages.{NAME}: duration_s, sample_rate_hz: {error}") from None


def open_text_image(run: Run[Settings]) -> TextImage:
    """Return the frozen text-image model, on the device."""
    own = stage_folder(run.pipeline, "train_clip")
    name = run.settings.clip or (str(own) if own.is_dir() else DEFAULT)
    try:
        return TextImage.load(name, device=run.device)
    except (CheckpointError, WeightsError) as error:
        raise CheckpointError(
            f"{error}. The text-image model is stages.{NAME}.clip, or what "
            "`python -m stages.train_clip` leaves in this pipeline's output"
        ) from None


def require_same_space(run: Run[Settings], space: dict[str, Any], name: str) -> None:
    """Raise CheckpointError if this training began with another text-image model."""
    found = checkpoints(run.folder / "checkpoints")
    if not found:
        return
    file = found[max(found)] / "sound_encoder.safetensors"
    features = read_metadata(file).get("features") or {}
    if features.get("space") != space:
        raise CheckpointError(
            f"{file} was aligned to another text-image model ({features.get('name')}) than {name}; "
            f"start anew with --fresh or another output folder, or name that one as "
            f"stages.{NAME}.clip"
        )


def has_scales(terms: Terms) -> bool:
    """Tell whether a term learns its temperature."""
    return terms.text or terms.image or terms.sound


def _without(names: list[str]) -> str:
    return f", without {', '.join(names)}" if names else ""


if __name__ == "__main__":
    launch(NAME, Settings, train)
