"""Train StyleGAN2 on the pictures of shards: python -m stages.train_stylegan2 pipelines/x.yaml

Its pictures can be edited: a latent that is moved changes what they show. Karras et al., Analyzing
and Improving the Image Quality of StyleGAN, CVPR 2020, with adaptive augmentation for few pictures
(Training Generative Adversarial Networks with Limited Data, NeurIPS 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avdata.errors import SettingsError
from avdata.shards.views import View
from avdata.strict import section, setting
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard, load_model
from stages.engine.fabric import prepared
from stages.engine.launch import launch
from stages.engine.optim import adam
from stages.engine.rng import generator_for
from stages.engine.run import Run
from stages.engine.settings import TrainSettings, bounded
from stages.losses.gradient_penalties import path_length_penalty, path_lengths, r1
from stages.losses.logistic import discriminator_logistic, generator_logistic
from stages.losses.pyramid import pyramid_l1
from stages.models import build
from stages.nn.pictures import as_images, save_png, sheet
from stages.nn.published import differences
from stages.stylegan2.augment import Augment
from stages.stylegan2.coverage import Nearest
from stages.stylegan2.discriminator import Discriminator
from stages.stylegan2.generator import Layer, n_latents
from stages.stylegan2.published import load_generator

NAME = "train_stylegan2"
BETAS, EPS = (0.0, 0.99), 1e-8
HALF = (0.5, 0.5, 0.5)  # pictures in [-1, 1]
FINE, COARSE = (1, 4, 16), (4, 16)  # scales, by their squares of pixels
SHEET = 6  # rows and columns of the sample pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(TrainSettings):
    """The shared settings, with the paper's batch and average as defaults."""

    batch_size: int = setting(32, "Pictures of one update, over all GPUs and micro-batches.")
    ema_decay: float | None = setting(
        0.998, "Decay of the averaged generator: half of it after 10 000 pictures; null: none."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A StyleGAN2; the defaults are the paper's at 256 pixels."""

    train: Train = section(Train, "Steps, batch, precision, checkpoints.")
    frames: Literal["best", "random"] = setting(
        "random", "Which stored frame of a clip is seen: the best match, or any."
    )
    flip: bool = setting(True, "Mirror every second real picture.")
    resolution: int = setting(256, "Side of the pictures: a power of 2.")
    z_dim: int = setting(512, "Noise.")
    w_dim: int = setting(512, "Latent.")
    mapping_layers: int = setting(8, "Layers from noise to latent.")
    base: int = setting(32768, "A layer of side s has base / s channels,")
    most: int = setting(512, "and at most so many.")
    init_from: str | None = setting(
        None,
        "Start the generator from a training's folder, or from a published file (.pkl, .pt or "
        "converted .safetensors).",
        path=True,
    )
    lr: float = setting(0.0025, "Learning rate of both networks.")
    mixing: float = setting(0.9, "Share of pictures whose later layers have another latent.")
    noise: bool = setting(
        True, "Learn how strong the noise of each layer is; false: it stays as it starts, at none."
    )
    r1_weight: float = setting(1.0, "Weight of R1 (γ / 2); 0: without.")
    r1_every: int = setting(16, "Steps from one pass of R1 to the next.")
    path_weight: float = setting(2.0, "Weight of the path length; 0: without.")
    path_every: int = setting(4, "Steps from one pass of the path length to the next.")
    path_share: int = setting(2, "Its batch is this many times smaller.")
    path_decay: float = setting(0.01, "How fast the mean path length follows.")
    augment_target: float | None = setting(
        0.6, "Overfitting that adaptive augmentation holds; null: no augmentation."
    )
    augment_length: int = setting(500_000, "Pictures in which p may go from 0 to 1.")
    augment_every: int = setting(4, "Steps from one change of p to the next.")
    cover_steps: int = setting(
        0,
        "In so many first steps the generator learns without a discriminator: of cover_noises, the "
        "one whose picture is nearest to a real one is drawn towards it. For short trainings.",
    )
    cover_weight: float = setting(
        0.0, "Weight of the same at coarse scales in all later steps, for half of a batch."
    )
    cover_lr: float = setting(0.03, "The generator's learning rate in cover_steps.")
    cover_noises: int = setting(512, "Noises of which the nearest is found.")
    cover_every: int = setting(50, "Steps after which other noises are drawn.")

    def __post_init__(self) -> None:
        bounded(self, "z_dim", "w_dim", "mapping_layers", "base", "most", "lr", above=0)
        bounded(self, "r1_every", "path_every", "path_share", "augment_length", above=0)
        bounded(self, "augment_every", "cover_lr", "cover_noises", "cover_every", above=0)
        bounded(self, "mixing", "r1_weight", "path_weight", "path_decay", least=0)
        bounded(self, "cover_steps", "cover_weight", least=0)


def train(run: Run[Settings]) -> None:
    """Train a StyleGAN2."""
    settings = run.settings
    if settings.train.strategy == "fsdp":
        raise SettingsError("the path length needs whole weights: use train.strategy auto or ddp")
    view = View(
        only="image", image_size_px=settings.resolution, flip=settings.flip, frame=settings.frames
    )
    batches = run.batches(view=view, mean=HALF, std=HALF)

    sizes = {"resolution": settings.resolution, "base": settings.base, "most": settings.most}
    architecture = {
        **sizes,
        "z_dim": settings.z_dim,
        "w_dim": settings.w_dim,
        "mapping_layers": settings.mapping_layers,
    }
    network = prepared(run.fabric, build("stylegan2_generator", **architecture))
    if settings.init_from is not None:
        start_from(network, settings.init_from)
    if not settings.noise:
        for layer in network.modules():
            if isinstance(layer, Layer):
                layer.noise_gain.requires_grad_(False)
    card = ModelCard(name="stylegan2_generator", settings=architecture)
    generator = run.model("generator", network, card=card, ema=True)
    discriminator = run.model("discriminator", prepared(run.fabric, Discriminator(**sizes)))
    g_optimizer = run.optimizer("generator", lazy_adam(generator, settings, settings.path_every))
    d_optimizer = run.optimizer(
        "discriminator", lazy_adam(discriminator, settings, settings.r1_every)
    )
    layers = n_latents(settings.resolution)
    augment = run.state("augmentation", Augmentation(settings, run.device))
    path_mean = run.state("path length", PathMean(settings.path_decay, run.device))
    covers = bool(settings.cover_steps or settings.cover_weight)
    count = settings.cover_noises if covers else 1
    nearest = run.state("nearest", Nearest(count, settings.z_dim, settings.resolution, run.device))

    def make(count: int, near: Tensor | None = None) -> Any:
        """Draw noise, mix styles, and return pictures with their latents.

        near: real pictures; the first ones made are of the noises nearest to them, unmixed.
        """
        z, other = (
            torch.randn(count, settings.z_dim, generator=run.generator, device=run.device)
            for _ in range(2)
        )
        places = cuts(count)
        if near is not None:
            z[: len(near)], places[: len(near)] = nearest.of(near), layers
        return generator(z, other=other, cuts=places, rng=run.generator)

    def cuts(count: int) -> Tensor:
        """Return from which layer on the other latent counts: [count], L where it never does."""
        places = torch.rand(count, generator=run.generator, device=run.device) * (layers - 1) + 1
        mixed = torch.rand(count, generator=run.generator, device=run.device) < settings.mixing
        return torch.where(mixed, places.floor(), layers)

    def d_loss(batch: TensorBatch) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = make(len(batch.image)).pictures
        # In two passes: the deviation within a group must not mix made pictures with real ones.
        real_score = discriminator(augment(batch.image, run.generator))
        fake_score = discriminator(augment(fake, run.generator))
        return {
            "loss": discriminator_logistic(real_score, fake_score),
            "real": real_score.mean(),
            "fake": fake_score.mean(),
            "overfit": torch.sign(real_score).mean(),
        }

    def r1_loss(batch: TensorBatch) -> dict[str, Tensor]:
        pictures = augment(batch.image, run.generator).detach().requires_grad_()
        scores = discriminator(pictures)
        penalty = r1(scores, pictures)
        return {"loss": settings.r1_weight * settings.r1_every * penalty, "r1": penalty}

    def cover_loss(batch: TensorBatch) -> dict[str, Tensor]:
        pictures = make(len(batch.image), near=batch.image).pictures
        return {"loss": pyramid_l1(pictures, batch.image, FINE)}

    def g_loss(batch: TensorBatch) -> dict[str, Tensor]:
        near = batch.image[: len(batch.image) // 2] if settings.cover_weight else batch.image[:0]
        made = make(len(batch.image), near=near).pictures
        loss = generator_logistic(discriminator(augment(made, run.generator)))
        if not len(near):
            return {"loss": loss}
        cover = pyramid_l1(made[: len(near)], near, COARSE)
        return {"loss": loss + settings.cover_weight * cover, "cover": cover}

    def path_loss(batch: TensorBatch) -> dict[str, Tensor]:
        made = make(max(1, len(batch.image) // settings.path_share))
        noise = torch.randn(made.pictures.shape, generator=run.generator, device=run.device)
        lengths = path_lengths(made.pictures, made.latents, noise)
        mean = path_mean.follow(over_ranks(run, lengths.mean()))
        penalty = path_length_penalty(lengths, mean)
        loss = settings.path_weight * settings.path_every * penalty
        return {"loss": loss, "path_length": lengths.mean()}

    def play(step: int, drawn: Any) -> dict[str, Tensor]:
        """Move the discriminator, then the generator; return what is logged."""
        values = {f"d_{k}": v for k, v in run.backward(discriminator, drawn, d_loss).items()}
        values["d_grad_norm"] = run.update(d_optimizer)
        if settings.r1_weight and step % settings.r1_every == 0:
            values["r1"] = run.backward(discriminator, drawn, r1_loss)["r1"]
            run.update(d_optimizer)
        values |= {f"g_{k}": v for k, v in run.backward(generator, drawn, g_loss).items()}
        values["g_grad_norm"] = run.update(g_optimizer, lr=g_lr)
        if settings.path_weight and step % settings.path_every == 0:
            values["path_length"] = run.backward(generator, drawn, path_loss)["path_length"]
            run.update(g_optimizer, lr=g_lr)
        augment.note(over_ranks(run, values["d_overfit"]), step)
        return {**values, "augment_p": augment.p}

    g_lr = g_optimizer.param_groups[0]["lr"]
    for step in run.steps(batches):
        drawn = run.draw(batches, lambda batch: batch)
        if covers and (step - 1) % settings.cover_every == 0:
            rng = generator_for(run.seed, NAME, f"nearest {step}", run.device)  # of all ranks
            nearest.draw(lambda z: generator(z).pictures, rng)
        if step > settings.cover_steps:
            values = play(step, drawn)
        else:
            values = {"cover": run.backward(generator, drawn, cover_loss)["loss"]}
            run.update(g_optimizer, lr=settings.cover_lr)
        run.log(values)
        if run.evaluation_due:
            with run.evaluating():
                if run.is_main:
                    save_png(samples(network, run), run.folder / "samples" / f"step-{step:08d}.png")


def start_from(network: nn.Module, path: str) -> None:
    """Give the generator the weights of an earlier training, or published ones.

    Raises WeightsError or CheckpointError for a file that holds none, SettingsError for another
    size.
    """
    theirs = load_model(path)[0] if Path(path).is_dir() else load_generator(path)
    if problems := differences(network.state_dict(), theirs.state_dict()):
        raise SettingsError(
            f"stages.{NAME}.init_from: {path} holds a generator of another size: {problems}. Set "
            "resolution, z_dim, w_dim, mapping_layers, base and most as it was made"
        )
    network.load_state_dict(theirs.state_dict())


class Augmentation(nn.Module):
    """Augments pictures, and adapts how often every few steps; or leaves them as they are."""

    signs: Tensor

    def __init__(self, settings: Settings, device: torch.device) -> None:
        super().__init__()
        self.on = settings.augment_target is not None
        self.settings = settings
        self.augment = Augment(settings.augment_target or 0.0, settings.augment_length)
        self.register_buffer("signs", torch.zeros(()))
        self.to(device)

    @property
    def p(self) -> Tensor:
        return self.augment.p

    def forward(self, pictures: Tensor, rng: torch.Generator) -> Tensor:
        return self.augment(pictures, rng) if self.on else pictures

    def note(self, signs: Tensor, step: int) -> None:
        """Take in the mean sign of the real pictures' scores at this step, of all ranks."""
        every = self.settings.augment_every
        self.signs += signs.detach() / every
        if step % every == 0:
            if self.on:
                self.augment.adapt(self.signs, every * self.settings.train.batch_size)
            self.signs.zero_()


class PathMean(nn.Module):
    """The running mean of the path length."""

    mean: Tensor

    def __init__(self, decay: float, device: torch.device) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros((), device=device))

    @torch.no_grad()
    def follow(self, length: Tensor) -> Tensor:
        """Move towards a length and return the mean."""
        self.mean.lerp_(length.float(), self.decay)
        return self.mean.clone()


def over_ranks(run: Run[Settings], value: Tensor) -> Tensor:
    """Return the mean over all ranks, without a gradient."""
    mean: Any = run.fabric.all_reduce(value.detach(), reduce_op="mean")
    return torch.as_tensor(mean)


def lazy_adam(network: nn.Module, settings: Settings, every: int) -> torch.optim.Optimizer:
    """Return Adam that takes a regularisation pass every few steps as if it were one of them.

    c = k / (k + 1) scales its learning rate and its decays' exponents (the paper's Appendix B).
    """
    share = every / (every + 1)
    first, second = (beta**share for beta in BETAS)
    return adam(network, lr=settings.lr * share, betas=(first, second), eps=EPS)


def samples(network: nn.Module, run: Run[Settings]) -> Any:
    """Return a sheet uint8 [H, W, 3] of pictures whose noise is the seed's."""
    rng = generator_for(run.seed, run.name, "samples", torch.device("cpu"))
    z = torch.randn(SHEET * SHEET, run.settings.z_dim, generator=rng).to(run.device)
    images = as_images(
        torch.cat([network(z[i : i + SHEET]).pictures for i in range(0, len(z), SHEET)])
    )
    return sheet(images.reshape(SHEET, SHEET, *images.shape[1:]))


if __name__ == "__main__":
    launch(NAME, Settings, train)
