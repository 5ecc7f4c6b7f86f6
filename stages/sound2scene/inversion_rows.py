"""A picture found again in the generator's latent space, and moved along two sounds, as rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.engine.rng import generator_for
from stages.generation.columns import Noises
from stages.generation.inputs import Picture, Sound
from stages.generation.rows import at_gain, resized, size_of, sound_row
from stages.generation.sheets import SheetRow, picture_panel
from stages.nn.pictures import as_images, as_pictures
from stages.sound2scene.inversion import Inversion, edited, invert
from stages.sound2scene.scene import Sound2Scene


def inversion_row(
    model: Sound2Scene, picture: Picture, seed: int, **search: Any
) -> tuple[SheetRow, Inversion]:
    """Return a picture as the generator can make it again, beside its first guess at it.

    search: steps, lr, candidates, feature_weight of `inversion.invert`. The image encoder,
    if there is one, gives the starting feature and is matched too.
    """
    wanted = as_pictures(resized(model, picture)[None], model.device)
    eye = model.image_encoder is not None
    found = invert(
        model.generator,
        wanted,
        rng=generator_for(seed, "invert", picture.name, model.device),
        h=model.seen([picture.image]) if eye else None,
        features=model.features if eye else None,
        **search,
    )
    made = model.draw(found.h, found.z)
    error = (made[0].astype(np.float64) - resized(model, picture)) / 255
    psnr_db = -10 * math.log10(max(float(np.square(error).mean()), 1e-10))
    start, best = float(found.curve[0]), float(found.curve.min())
    row = SheetRow(
        title=picture.name,
        note=f"found again: {psnr_db:.1f} dB PSNR, loss {start:.4f} to {best:.4f}",
        panel=picture_panel(picture.image, size_of(model)),
        images=np.concatenate([as_images(wanted), made]),
        headings=("what is searched", "found again"),
        facts={
            "image": picture.name,
            "psnr_db": psnr_db,
            "loss": found.curve[:, 0].tolist(),
            "search": dict(search),
        },
    )
    return row, found


def edit_rows(
    model: Sound2Scene,
    picture: Picture,
    source: Sound,
    target: Sound,
    *,
    gains_db: tuple[float, float] = (0.0, 0.0),
    strengths: Sequence[float],
    n: int,
    seed: int,
    **search: Any,
) -> list[SheetRow]:
    """Return both sounds' pictures, and a picture moved along the difference of the sounds.

    The picture is inverted first; then h' = (h + α (z_target − z_source)) / ‖·‖ for each strength
    α, its noise held fixed.
    """
    ends = list(zip((source, target), gains_db, strict=True))
    name = f"{source.name} to {target.name}"
    noises = Noises(model, n, seed)
    sounds = [sound_row(noises, sound, name, gain_db) for sound, gain_db in ends]
    away, to = (model.hear(at_gain(model, sound, gain_db)) for sound, gain_db in ends)
    again, found = inversion_row(model, picture, seed, **search)
    images = [model.draw(edited(found.h, away, to, strength), found.z) for strength in strengths]
    moved = SheetRow(
        title=f"{picture.name}, from {source.name} to {target.name}",
        note=again.note,
        panel=again.panel,
        images=np.concatenate(images),
        headings=[f"strength {strength:g}" for strength in strengths],
        facts={**again.facts, "from": source.name, "to": target.name, "strengths": [*strengths]},
    )
    return [*sounds, moved]
