"""Teach an audio encoder to land in the image encoder's space (Sound2Scene, Sound2Vision).

    python -m stages.train_sound2scene pipelines/x.yaml [--set stages.train_sound2scene.lr=1e-4]

    frozen image encoder    frame → z^V, once for each frame, then from a cache
    audio encoder           sound → log spectrogram → z^A, drawn to its z^V by `loss`

Sung-Bin et al., Sound to Visual Scene Generation by Audio-to-Visual Latent Alignment, CVPR 2023.
stages/sound2scene/README.md says what the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from avdata.audio.spec import SOUND2SCENE, AudioSpec
from avdata.errors import SettingsError, WeightsError
from avdata.strict import section, setting
from stages.engine.checkpoint import ModelCard, fill, load_weights, require_audio
from stages.engine.errors import CheckpointError
from stages.engine.fabric import prepared
from stages.engine.launch import launch, stage_folder
from stages.engine.optim import adam
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.image_encoder.frozen import FrozenEncoder, load_image_encoder
from stages.image_encoder.space import FeatureSpace, check_space, require_same_encoder
from stages.losses.info_nce import cosine_info_nce, euclidean_info_nce, gathered
from stages.losses.latent import l2
from stages.models import build
from stages.nn.frontend import Frontend
from stages.nn.published import load_published
from stages.pairs.data import PairBatch, PairData, PairSettings
from stages.sound2scene.load import SAME_VIEW

NAME = "train_sound2scene"
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """As the paper trains: 50 epochs in batches of 64, ended early by the held-out loss."""

    keep_best: str | None = setting("val_loss", "Evaluated metric that names the best checkpoint.")
    patience: int | None = setting(
        5, "Stop after this many evaluations without a better keep_best; null: never."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The audio encoder, its loss, and what it hears."""

    train: Train = section(Train, "Steps, batch, precision, checkpoints.")
    data: PairSettings = section(PairSettings, "Which clips, and how their pictures are seen.")
    loss: Literal["l_total", "l_nce", "l2"] = setting(
        "l_total",
        "l_total: InfoNCE on the Euclidean distance; l_nce: on the cosine; l2: distance of pairs.",
    )
    l2_kind: Literal["mse", "norm"] = setting("mse", "Of l2: mean square, or mean norm.")
    lr: float = setting(1e-3, "Learning rate of Adam.")
    weight_decay: float = setting(1e-5, "Weight decay of Adam, as L2 in the gradient.")
    duration_s: float = setting(10.0, "Seconds heard: cut, or repeated until long enough.")
    arch: str = setting("resnet18", "Trunk of the audio encoder: resnet18, resnet50 or tiny.")
    width: int | None = setting(None, "Channels of its first layer; null: as the trunk has them.")
    head: Literal["linear", "mlp"] = setting("linear", "mlp: of the latent diffusion version.")
    final_relu: bool | None = setting(None, "End in a ReLU; null: as published (linear alone).")
    init_from: str | None = setting(
        None,
        "Start from a training's folder, its .safetensors, or the published checkpoint.",
        path=True,
    )
    image_encoder: str | None = setting(
        None,
        "Folder or weights of a trained image encoder, or SwAV's published checkpoint (a path, or "
        "swav_resnet50 of the weights table); null: of this pipeline's train_image_encoder.",
        path="optional",
    )

    def __post_init__(self) -> None:
        bounded(self, "lr", "duration_s", "width", above=0)
        bounded(self, "weight_decay", least=0)
        if self.loss != "l2" and self.train.accumulate > 1:
            raise ValueError(
                f"loss {self.loss} contrasts the whole batch, so train.accumulate must be 1, got "
                f"{self.train.accumulate}; use more GPUs or bf16 where memory is short"
            )


def train(run: Run[Settings]) -> None:
    """Train an audio encoder whose features land beside those of the matching pictures."""
    settings = run.settings
    spec = audio_spec(settings.duration_s)
    encoder, space = open_image_encoder(run)
    data = PairData(run, settings.data, encoder, spec)
    batches = data.batches()

    architecture = {
        "arch": settings.arch,
        "width": settings.width,
        "out_dim": encoder_dim(encoder, run.device),
        "head": settings.head,
        "final_relu": settings.final_relu,
    }
    audio_encoder = build("audio_encoder", **architecture)
    if settings.init_from is not None:
        start_from(audio_encoder, settings.init_from, architecture, spec, space)
    audio_encoder = prepared(run.fabric, audio_encoder)
    card = ModelCard(
        name="audio_encoder", settings=architecture, audio=spec, features=space.record()
    )
    model = run.model("audio_encoder", audio_encoder, card=card, ema=True)
    optimizer = run.optimizer(
        "optimizer", adam(model, lr=settings.lr, weight_decay=settings.weight_decay)
    )
    frontend = Frontend(spec).to(run.device)
    distance = make_loss(settings)

    def loss(batch: PairBatch) -> dict[str, Tensor]:
        z_A = model(frontend(batch.sound))  # [B, D]
        return {"loss": distance(z_A, batch.z_v), **agreement(z_A.detach(), batch.z_v)}

    for _ in run.steps(batches):
        values = run.backward(model, batches, loss)
        norm = run.update(optimizer)
        run.log({**values, "grad_norm": norm})
        if run.evaluation_due:
            run.log_evaluation(run.evaluate(data.held_out(), loss))


def audio_spec(duration_s: float) -> AudioSpec:
    """Return Sound2Scene's front-end for this length: 98, 500, 1004 columns for 1, 5, 10 s.

    Raises SettingsError if it is shorter than one window of the spectrogram.
    """
    n_samples = round(duration_s * SOUND2SCENE.sample_rate_hz)
    if n_samples == SOUND2SCENE.n_samples:
        return SOUND2SCENE
    try:
        return replace(SOUND2SCENE, name=f"sound2scene_{duration_s:g}s", n_samples=n_samples)
    except ValueError as error:
        raise SettingsError(f"stages.{NAME}: duration_s: {error}") from None


def make_loss(settings: Settings) -> Loss:
    """Return L(z^A, z^V) of paired features [B, D], of all processes together."""
    losses: dict[str, Loss] = {
        "l_total": euclidean_info_nce,
        "l_nce": cosine_info_nce,
        "l2": partial(l2, kind=settings.l2_kind),
    }
    return losses[settings.loss]


@torch.no_grad()
def agreement(z_A: Tensor, z_V: Tensor) -> dict[str, Tensor]:
    """Return what compares any two losses: the mean cosine of pairs, and the share of sounds whose
    own picture is the nearest one of the batch (of all processes)."""
    a, v = F.normalize(z_A.float(), dim=1), F.normalize(z_V.float(), dim=1)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    own = torch.arange(len(a), device=a.device) + rank * len(a)
    nearest = (a @ gathered(v).T).argmax(dim=1)
    return {"alignment": (a * v).sum(dim=1).mean(), "r1": (nearest == own).float().mean()}


def open_image_encoder(run: Run[Settings]) -> tuple[FrozenEncoder, FeatureSpace]:
    """Return the frozen image encoder, on the device, and the space of its features, held against
    earlier ones."""
    path = run.settings.image_encoder or stage_folder(run.pipeline, "train_image_encoder")
    look = run.settings.data
    try:
        encoder = load_image_encoder(path, input_px=look.input_px)
    except (CheckpointError, WeightsError) as error:
        raise CheckpointError(
            f"{error}. The image encoder is stages.{NAME}.image_encoder, or what "
            "`python -m stages.train_image_encoder` leaves in this pipeline's output"
        ) from None
    space = FeatureSpace.of(encoder, look.image_size_px)
    check_space(run, space, path, partner="train_icgan", same_view=SAME_VIEW)
    encoder.network.to(run.device)
    return encoder, space


def encoder_dim(encoder: FrozenEncoder, device: torch.device) -> int:
    """Return D, the length of z^V."""
    return encoder.features(torch.zeros(1, 3, 64, 64, device=device)).shape[-1]


def start_from(
    model: nn.Module,
    path: str,
    architecture: Mapping[str, object],
    spec: AudioSpec,
    space: FeatureSpace,
) -> None:
    """Give the audio encoder the weights of an earlier training, or published ones.

    Raises SettingsError if it is built in another way or hears in another way, and WeightsError or
    CheckpointError for a file that does not hold one, or one of another image encoder. How that
    one was shown pictures may differ: the training moves the features to where they are now.
    """
    if not Path(path).is_dir() and Path(path).suffix != ".safetensors":
        load_published(model, "sound2scene", path)
        return
    metadata, weights = load_weights(path)
    if (metadata["model"], metadata["settings"]) != ("audio_encoder", architecture):
        raise SettingsError(
            f"stages.{NAME}.init_from: {path} holds the model {metadata['model']} with "
            f"{metadata['settings']}, these settings make an audio_encoder with {architecture}"
        )
    require_audio(metadata, spec, path)
    if (theirs := FeatureSpace.read(metadata, path)) is not None:
        require_same_encoder(
            {path: theirs, "the image encoder of this training": space},
            f"leave stages.{NAME}.init_from out, or name that encoder as "
            f"stages.{NAME}.image_encoder",
        )
    fill(model, weights, path)


if __name__ == "__main__":
    launch(NAME, Settings, train)
