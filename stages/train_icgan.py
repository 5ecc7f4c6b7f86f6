"""Train an instance-conditioned GAN: python -m stages.train_icgan pipelines/x.yaml [--set ...]

A BigGAN whose generator is told by the feature of a picture what its neighbours look like; the
generator of Sound2Scene. Casanova et al., Instance-conditioned GAN, NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avdata.errors import SettingsError
from avdata.shards.folder import open_folder, read_dataset
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.checkpoint import ModelCard
from stages.engine.data import require_size
from stages.engine.fabric import prepared
from stages.engine.launch import launch, stage_folder
from stages.engine.optim import adam
from stages.engine.rng import generator_for
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.image_encoder.frozen import FrozenEncoder, load_image_encoder
from stages.image_encoder.space import FeatureSpace, check_space
from stages.losses.diversity import diversity
from stages.losses.hinge import discriminator_hinge, generator_hinge
from stages.models import build
from stages.nn.pictures import as_images, as_pictures, save_png, sheet
from stages.nn.sphere import unit_norm
from stages.pairs.clips import read_clips
from stages.pairs.features import cached_features
from stages.sound2scene.icgan import discriminator_sides, generator_sides
from stages.sound2scene.instances import Instances, open_instances
from stages.sound2scene.load import SAME_VIEW

BETAS, EPS = (0.0, 0.999), 1e-6  # of Adam, in BigGAN and IC-GAN
GRID_ROWS, GRID_COLUMNS = 8, 8  # of the sample pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class IcganTrainSettings(TrainSettings):
    """The shared settings, with the paper's batch and average as defaults."""

    batch_size: int = setting(
        2048, "Instances of one update, over all GPUs and micro-batches together."
    )
    ema_decay: float | None = setting(0.9999, "Decay of the averaged generator; null: none.")
    ema_start_step: int = setting(20_000, "Until this step the average is a copy of the weights.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """An IC-GAN; the defaults are the paper's at 128 pixels."""

    train: IcganTrainSettings = section(IcganTrainSettings, "Steps, batch, precision, checkpoints.")
    image_encoder: str | None = setting(
        None,
        "Weights of the image encoder, ours or SwAV's (a path, or swav_resnet50 of the weights "
        "table); null: of stage train_image_encoder.",
        path="optional",
    )
    encoder_view_px: int = setting(256, "Side to which a picture is brought for the encoder.")
    encoder_input_px: int | None = setting(
        224, "Side to which it is then resampled on the device; null: not."
    )
    resolution: int = setting(128, "Side of the generated pictures: 32, 64, 128 or 256.")
    channels: int = setting(96, "Width of the narrowest layers of both networks (ch).")
    z_dim: int = setting(120, "Noise: a multiple of the number of blocks + 1.")
    embed_dim: int = setting(512, "To how many dimensions the generator embeds the feature.")
    attention_px: tuple[int, ...] = setting((64,), "In both networks, at these sides; [] for none.")
    neighbours: int = setting(50, "Nearest neighbours of an instance that count as real (k).")
    diversity_weight: float = setting(
        0.0,
        "Weight of a reward for two pictures that differ as their noises do; 0, as in the paper: "
        "none. With it the generator's batch holds half as many instances, each with two noises.",
    )
    diversity_limit: float = setting(
        0.1, "Up to which difference of the pictures, per difference of the noises, it rewards."
    )
    flip: bool = setting(True, "Mirror every second real picture and instance.")
    g_lr: float = setting(4e-5, "Learning rate of the generator.")
    d_lr: float = setting(1e-4, "Learning rate of the discriminator.")
    d_steps: int = setting(1, "Updates of the discriminator for one of the generator.")
    sync_batch_norm: bool = setting(True, "Batch norm over all GPUs; on the CPU each rank's own.")

    def __post_init__(self) -> None:
        bounded(self, "encoder_view_px", "encoder_input_px", "resolution", "channels", above=0)
        bounded(self, "z_dim", "embed_dim", "neighbours", "d_steps", above=0)
        bounded(self, "g_lr", "d_lr", "diversity_weight", "diversity_limit", least=0)
        sides = set(generator_sides(self.resolution)) & set(discriminator_sides(self.resolution))
        if unknown := set(self.attention_px) - sides:
            raise ValueError(
                f"attention_px {sorted(unknown)}: at resolution {self.resolution} both networks "
                f"have blocks that end at {sorted(sides)}; give some of these, or []"
            )


def train(run: Run[Settings]) -> None:
    """Train an instance-conditioned GAN."""
    settings = run.settings
    laid_out = partial(prepared, run.fabric, sync_batch_norm=settings.sync_batch_norm)
    if settings.train.strategy == "fsdp":
        raise SettingsError("spectral norm needs whole weights: use train.strategy auto or ddp")
    encoder, space = open_image_encoder(run)
    instances = open_data(run, encoder)
    own = instances.features.digest
    d_rows = run.rows(len(instances), "rows of the discriminator", of=own)
    g_rows = run.rows(len(instances), "rows of the generator", of=own)

    common = {
        "resolution": settings.resolution,
        "channels": settings.channels,
        "feature_dim": instances.features.values.shape[1],
        "attention_px": settings.attention_px,
    }
    generator_sizes = {**common, "z_dim": settings.z_dim, "embed_dim": settings.embed_dim}
    card = ModelCard(name="icgan_generator", settings=generator_sizes, features=space.record())
    network = laid_out(build("icgan_generator", **generator_sizes))
    generator = run.model("generator", network, card=card, ema=True)
    critic = laid_out(build("icgan_discriminator", **common))
    discriminator = run.model("discriminator", critic)
    g_optimizer = run.optimizer(
        "generator", adam(generator, lr=settings.g_lr, betas=BETAS, eps=EPS)
    )
    d_optimizer = run.optimizer(
        "discriminator", adam(discriminator, lr=settings.d_lr, betas=BETAS, eps=EPS)
    )

    def noise(n: int) -> Tensor:
        shape = (n, settings.z_dim)
        return torch.randn(shape, generator=run.generator, device=run.device)

    def d_loss(rows: Tensor) -> dict[str, Tensor]:
        h = instances.conditions(rows, run.generator)
        with torch.no_grad():
            fake = generator(noise(len(rows)), h)
        real = instances.reals(rows, run.generator)
        # One pass for both: spectral norm's power iteration advances once per step.
        scores = discriminator(torch.cat([real, fake]), torch.cat([h, h]))
        real_score, fake_score = scores.chunk(2)
        loss = discriminator_hinge(real_score, fake_score)
        return {"loss": loss, "real": real_score.mean(), "fake": fake_score.mean()}

    def g_loss(rows: Tensor) -> dict[str, Tensor]:
        if not settings.diversity_weight:
            h = instances.conditions(rows, run.generator)
            return {"loss": generator_hinge(discriminator(generator(noise(len(h)), h), h))}
        few = rows[: max(1, len(rows) // 2)]
        h = instances.conditions(few, run.generator).repeat(2, 1)
        z = noise(len(h))
        pictures = generator(z, h)
        (a, b), (z_a, z_b) = pictures.chunk(2), z.chunk(2)
        variety = diversity((a, b), (z_a, z_b), settings.diversity_limit)
        hinge = generator_hinge(discriminator(pictures, h))
        return {"loss": hinge - settings.diversity_weight * variety, "diversity": variety}

    for step in run.steps(g_rows):
        for _ in range(settings.d_steps):
            scores = run.backward(discriminator, d_rows, d_loss)
            d_norm = run.update(d_optimizer)
        made = run.backward(generator, g_rows, g_loss)
        g_norm = run.update(g_optimizer)
        run.log(
            {
                **{f"g_{name}": value for name, value in made.items()},
                **{f"d_{name}": value for name, value in scores.items()},
                "g_grad_norm": g_norm,
                "d_grad_norm": d_norm,
            }
        )
        if run.evaluation_due:
            with run.evaluating():
                if run.is_main:
                    pictures = samples(network, settings.z_dim, instances, run)
                    save_png(pictures, run.folder / "samples" / f"step-{step:08d}.png")


def open_image_encoder(run: Run[Settings]) -> tuple[FrozenEncoder, FeatureSpace]:
    """Return the frozen image encoder and the space of its features, held against earlier ones."""
    settings = run.settings
    path = settings.image_encoder or stage_folder(run.pipeline, "train_image_encoder")
    encoder = load_image_encoder(path, input_px=settings.encoder_input_px)
    space = FeatureSpace.of(encoder, settings.encoder_view_px)
    check_space(run, space, path, partner="train_sound2scene", same_view=SAME_VIEW)
    return encoder, space


def open_data(run: Run[Settings], encoder: FrozenEncoder) -> Instances:
    """Return the training split; the first rank makes what is not there yet."""
    settings = run.settings
    for side in (settings.resolution, settings.encoder_view_px):
        require_size(read_dataset(open_folder(run.shards)), View(image_size_px=side), run.shards)
    folder = run.folder.parent / "features"
    features = cached_features(
        folder,
        read_clips(run.shards, "train"),
        encoder,
        image_size_px=settings.encoder_view_px,
        mirrored=settings.flip,
        workers=settings.train.workers,
        device=run.device,
        console=run.console,
    )

    def instances() -> Instances:
        return open_instances(
            folder,
            run.shards,
            "train",
            features,
            size_px=settings.resolution,
            k=settings.neighbours,
            device=run.device,
            workers=settings.train.workers,
        )

    if run.is_main:
        instances()
    run.fabric.barrier()
    return instances()


def samples(
    generator: nn.Module, z_dim: int, instances: Instances, run: Run[Settings]
) -> NDArray[np.uint8]:
    """Return a sheet uint8 [H, W, 3]: in each row an instance, then pictures made from it.

    A column has the same noise throughout; instances and noise are those of the seed.
    """
    rng = generator_for(run.seed, run.name, "samples", torch.device("cpu"))
    rows = torch.randperm(len(instances), generator=rng)[:GRID_ROWS].numpy()
    z = torch.randn((GRID_COLUMNS, z_dim), generator=rng).to(run.device)
    h = unit_norm(torch.from_numpy(instances.features.values[rows])).to(run.device)
    columns = [as_pictures(instances.pictures[rows], run.device)]
    columns += [generator(noise.expand(len(rows), -1), h) for noise in z]
    return sheet(np.stack([as_images(column) for column in columns]))


if __name__ == "__main__":
    launch("train_icgan", Settings, train)
