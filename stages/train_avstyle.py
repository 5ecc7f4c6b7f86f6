"""Teach a generator to restyle pictures by sounds: python -m stages.train_avstyle PIPELINE.yaml

    sound encoder    sound of y → spectrogram → what is heard
    generator        picture x, what is heard → x as it would look there
    discriminator    (y, sound) or (G(x), sound): is it real, and does it go with the sound?
    PatchNCE         each patch of G(x) knows that of x at its place again, and of G(y) that of y

Li et al., Learning Visual Styles from Audio-Visual Associations, ECCV 2022. What the paper leaves
open: stages/avstyle/README.md
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avdata.audio.spec import AVSTYLE
from avdata.errors import SettingsError
from avdata.seeding import keyed_hash
from stages.avstyle.conditions import read_told
from stages.avstyle.consistency import CycleConsistency, Kept, Painted, PatchConsistency
from stages.avstyle.discriminator import Discriminator
from stages.avstyle.ear import make_ear
from stages.avstyle.generator import Generator
from stages.avstyle.pool import Pool
from stages.avstyle.projections import Projections
from stages.avstyle.settings import Settings
from stages.avstyle.unpaired import Unpaired, UnpairedData
from stages.engine.batches import TensorBatch
from stages.engine.checkpoint import ModelCard
from stages.engine.fabric import prepared
from stages.engine.launch import launch
from stages.engine.optim import adam, linear_decay
from stages.engine.run import Run
from stages.losses.least_squares import discriminator_least_squares, generator_least_squares
from stages.nn.frontend import Frontend
from stages.nn.pictures import as_images, save_png, sheet

NAME = "train_avstyle"
BETAS = (0.5, 0.999)  # of Adam
SAMPLE_ROWS = 8

Net = TypeVar("Net", bound=nn.Module)


def train(run: Run[Settings]) -> None:
    """Train generator and sound encoder; both are products."""
    settings = run.settings
    laid_out = partial(prepared, run.fabric, sync_batch_norm=settings.sync_batch_norm)
    require_fitting(run)
    condition, (weight, identity_weight) = settings.condition, settings.weights
    data = UnpairedData(
        run,
        contents=settings.content_shards,
        side_px=settings.resolution_px,
        load_px=settings.load_px,
    )
    held_out = None if settings.held_out is None else data.held_out(settings.held_out)
    known = None if condition == "sound" else read_told(run.shards, condition)

    sizes = {"width": settings.width, "blocks": settings.blocks, "sound_dim": settings.sound_dim}
    network = laid_out(Generator(**sizes, enters=settings.enters))
    card = ModelCard(name="avstyle_generator", settings={**sizes, "enters": settings.enters})
    generator = run.model("generator", network, card=card, ema=True)
    name, module, ear_card = make_ear(settings, known, run.note)
    ear = run.model(name, laid_out(module), card=ear_card, ema=True)
    hears_early = known is None and settings.fusion == "early"
    critic = Discriminator(
        width=settings.discriminator_width,
        layers=settings.discriminator_layers,
        sound="early" if hears_early else "late",
        sound_dim=settings.sound_dim,
    )
    discriminator = run.model("discriminator", laid_out(critic))
    pool: Pool | None = None
    if settings.consistency == "nce":
        mlps = Projections(channels=network.content.layer_channels)
        helper = run.model("projections", mlps)
        consistency: Callable[[Painted], Kept] = PatchConsistency(
            run,
            network.content,
            helper,
            patches=settings.patches,
            temperature=settings.temperature,
        )
    else:
        helper = run.model("back", laid_out(Generator(**sizes, enters="none")))
        consistency = CycleConsistency(run, helper)
        pool = run.state("pool", Pool(settings.pool_size, keyed_hash(run.seed, run.name, "pool")))
    painters = nn.ModuleList([generator, ear])
    g_optimizer = run.optimizer("generator", adam(painters, lr=settings.lr, betas=BETAS))
    helper_optimizer = run.optimizer("helper", adam(helper, lr=settings.lr, betas=BETAS))
    d_optimizer = run.optimizer("discriminator", adam(discriminator, lr=settings.lr, betas=BETAS))
    batches = iter(data)
    frontend = Frontend(AVSTYLE).to(run.device)
    draw = torch.compile(network.paint) if settings.train.compile else network.paint

    def hear(pair: TensorBatch) -> tuple[Tensor, Tensor]:
        """Return what the discriminator is told of the sound, and the generator: [B, sound_dim]."""
        given = frontend(pair.audio) if known is None else known.scores(pair.keys).to(run.device)
        heard = ear(given)
        # The ear learns from the generator's loss alone, by what the generator draws.
        return given if hears_early else heard.detach(), heard

    def paint(batch: Unpaired) -> Painted:
        x, y = batch.content.image, batch.pair.image
        told, heard = hear(batch.pair)
        both = identity_weight > 0  # in one pass
        with run.fabric.autocast():
            made, layers = (
                draw(torch.cat([x, y]), torch.cat([heard, heard])) if both else draw(x, heard)
            )
        pictures = made.float()
        same = pictures[len(x) :] if both else None
        return Painted(batch.keys, x, y, told, pictures[: len(x)], same, layers)

    def d_loss(painted: Painted) -> dict[str, Tensor]:
        fake, beside = painted.fake.detach(), painted.told
        if pool is not None:
            fake, beside = pool.exchange(fake, beside)
        pictures, told = [painted.y, fake], [painted.told, beside]
        if settings.mismatched:
            pictures.append(painted.y)
            told.append(painted.told.roll(1, dims=0))
        scores = discriminator(torch.cat(pictures), torch.cat(told)).chunk(len(pictures))
        names = ("real", "fake", "mismatched")
        means = {name: score.mean() for name, score in zip(names, scores, strict=False)}
        return {"loss": discriminator_least_squares(*scores), **means}

    def g_loss(painted: Painted) -> dict[str, Tensor]:
        gan = generator_least_squares(discriminator(painted.fake, painted.told))
        kept = consistency(painted)
        values = {"loss": gan + weight * kept.consistency, "gan": gan}
        values[settings.consistency] = kept.consistency
        if kept.identity is not None:
            values["loss"] = values["loss"] + identity_weight * kept.identity
            values["identity"] = kept.identity
        return values

    def held_out_loss(batch: Unpaired) -> dict[str, Tensor]:
        """Besides, how much a picture changes with the sound, in [0, 1]: 0 for a deaf generator."""
        values = g_loss(paint(batch))
        _, heard = hear(batch.pair)
        with run.fabric.autocast():
            features = network.content(batch.content.image)
            drawn = [network.drawing(features, h).float() for h in (heard, heard.roll(1, 0))]
        return {**values, "hears": (drawn[0] - drawn[1]).abs().mean() / 2}

    for step in run.steps(range(settings.frames_per_clip * len(data.longer))):
        lr = linear_decay(
            step,
            run.total_steps,
            settings.lr,
            parts=settings.train.epochs,
            decay_parts=settings.decay_epochs,
            to_zero=settings.decay == "zero",
        )
        painted = run.draw(batches, paint)
        judged = run.backward(discriminator, painted, d_loss)
        d_norm = run.update(d_optimizer, lr=lr)
        made = run.backward((generator, ear, helper), painted, g_loss)
        g_norm = run.update(g_optimizer, lr=lr)
        run.update(helper_optimizer, lr=lr)
        run.log(
            {
                **{f"g_{name}": value for name, value in made.items()},
                **{f"d_{name}": value for name, value in judged.items()},
                **{"g_grad_norm": g_norm, "d_grad_norm": d_norm, "lr": lr},
            }
        )
        if held_out is not None and run.evaluation_due:
            run.log_evaluation(run.evaluate(held_out, held_out_loss))
            with run.evaluating():
                if run.is_main:
                    shown = sample_sheet(next(iter(held_out)), paint)
                    save_png(shown, run.folder / "samples" / f"step-{step:08d}.png")


def require_fitting(run: Run[Settings]) -> None:
    """Raise SettingsError for what these losses cannot do."""
    train = run.settings.train
    if train.strategy == "fsdp":
        raise SettingsError("the generator is used in parts: use train.strategy auto or ddp")
    size = train.batch_size // (run.world_size * train.accumulate)
    if run.settings.mismatched and size < 2:
        raise SettingsError(
            f"stages.{NAME}.mismatched takes the sound of another clip of the micro-batch, which "
            f"has {size}: raise train.batch_size, or lower train.accumulate"
        )


def sample_sheet(batch: Unpaired, paint: Callable[[Unpaired], Painted]) -> NDArray[np.uint8]:
    """Return a sheet uint8 [H, W, 3]: a picture, a sound's own frame, the picture with it."""
    painted = paint(batch)
    columns = (painted.x, painted.y, painted.fake)
    return sheet(np.stack([as_images(column[:SAMPLE_ROWS]) for column in columns]))


if __name__ == "__main__":
    launch(NAME, Settings, train)
