"""What each command makes, as rows of a contact sheet.

Pictures in one column share their noise within a row and, wherever rows are steps of one thing
(gains, shares, mixes), across rows: what differs between them is what was changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from avdata.frames import resize
from stages.engine.rng import generator_for
from stages.generation.inputs import Picture, Sound
from stages.generation.sheets import Panel, Row, panel_size, picture_panel, share_panel, sound_panel
from stages.generation.sounds import amplitude, fit, mixed
from stages.nn.gradcam import cosine_to, grad_cam, own_length
from stages.nn.pictures import as_images, as_pictures
from stages.nn.sphere import Way, angle_rad, interpolated
from stages.sound2scene.inversion import Inversion, edited, invert
from stages.sound2scene.scene import Sound2Scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

Toward = Literal["made", "own"]


def sound_rows(model: Sound2Scene, sounds: Sequence[Sound], n: int, seed: int) -> list[Row]:
    """Return n pictures of each sound."""
    return [_sound_row(model, sound, n, seed, sound.name) for sound in sounds]


def image_rows(model: Sound2Scene, pictures: Sequence[Picture], n: int, seed: int) -> list[Row]:
    """Return n pictures in the manner of each picture (IC-GAN)."""
    return [
        Row(
            title=picture.name,
            panel=picture_panel(picture.image, _size(model)),
            images=model.generate(image=picture, n=n, seed=seed),
            facts={"image": picture.name},
        )
        for picture in pictures
    ]


def mix_rows(
    model: Sound2Scene, sounds: Sequence[Sound], gains_db: Sequence[float], n: int, seed: int
) -> list[Row]:
    """Return pictures of each sound alone at its gain, then of their sum; the noise is the same."""
    name = " + ".join(sound.name for sound in sounds)
    rows = [
        _sound_row(model, sound, n, seed, name, gain_db)
        for sound, gain_db in zip(sounds, gains_db, strict=True)
    ]
    fitted = mixed([fit(s, model.spec) for s in sounds], [amplitude(g) for g in gains_db])
    together = Row(
        title=name,
        note="mixed",
        panel=_panel(model, fitted),
        images=model.draw(model.hear(fitted), model.noise(name, n, seed)),
        facts={"sounds": [s.name for s in sounds], "gains_db": list(gains_db)},
    )
    return [*rows, together]


def sweep_rows(
    model: Sound2Scene, sound: Sound, gains_db: Sequence[float], n: int, seed: int
) -> list[Row]:
    """Return pictures of one sound at several volumes; the noise is held fixed."""
    return [_sound_row(model, sound, n, seed, sound.name, gain_db) for gain_db in gains_db]


def interpolation_rows(
    model: Sound2Scene,
    ends: tuple[Sound | Picture, Sound | Picture],
    shares: Sequence[float],
    way: Way,
    n: int,
    seed: int,
) -> list[Row]:
    """Return pictures from one end to the other, one row for each share of the second."""
    a, b = (_feature(model, end) for end in ends)
    names = (ends[0].name, ends[1].name)
    z = model.noise(" to ".join(names), n, seed)
    rows = []
    for share in shares:
        panel = share_panel(share, names, _size(model))
        if share in (0, 1):
            panel = _end_panel(model, ends[int(share)])
        h = interpolated(a, b, share, way)
        rows.append(
            Row(
                title=f"{1 - share:.0%} {names[0]} · {share:.0%} {names[1]}",
                note=f"{math.degrees(angle_rad(a, h)):.1f}° from {names[0]}",
                panel=panel,
                images=model.draw(h, z),
                facts={"share": share, "way": way, "ends": list(names)},
            )
        )
    return rows


def inversion_row(
    model: Sound2Scene, picture: Picture, seed: int, **search: Any
) -> tuple[Row, Inversion]:
    """Return a picture as the generator can make it again, beside its first guess at it.

    search: steps, lr, candidates, feature_weight of `inversion.invert`. The image
    encoder, if there is one, gives the starting feature and is matched too.
    """
    wanted = as_pictures(_resized(model, picture)[None], model.device)
    eye = model.image_encoder is not None
    found = invert(
        model.generator,
        wanted,
        rng=generator_for(seed, "invert", picture.name, model.device),
        h=model.see(picture.image)[None] if eye else None,
        features=model.features if eye else None,
        **search,
    )
    made = model.draw(found.h, found.z)
    error = (made[0].astype(np.float64) - _resized(model, picture)) / 255
    psnr_db = -10 * math.log10(max(float(np.square(error).mean()), 1e-10))
    start, best = float(found.curve[0]), float(found.curve.min())
    row = Row(
        title=picture.name,
        note=f"found again: {psnr_db:.1f} dB PSNR, loss {start:.4f} to {best:.4f}",
        panel=picture_panel(picture.image, _size(model)),
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
) -> list[Row]:
    """Return both sounds' pictures, and a picture moved along the difference of the sounds.

    The picture is inverted first; then h' = (h + α (z_target − z_source)) / ‖·‖ for each strength
    α, its noise held fixed.
    """
    ends = list(zip((source, target), gains_db, strict=True))
    name = f"{source.name} to {target.name}"
    sounds = [_sound_row(model, sound, n, seed, name, gain_db) for sound, gain_db in ends]
    away, to = (model.hear(_at_gain(model, sound, gain_db)) for sound, gain_db in ends)
    again, found = inversion_row(model, picture, seed, **search)
    images = [model.draw(edited(found.h, away, to, strength), found.z) for strength in strengths]
    moved = Row(
        title=f"{picture.name}, from {source.name} to {target.name}",
        note=again.note,
        panel=again.panel,
        images=np.concatenate(images),
        headings=[f"strength {strength:g}" for strength in strengths],
        facts={**again.facts, "from": source.name, "to": target.name, "strengths": [*strengths]},
    )
    return [*sounds, moved]


def gradcam_rows(
    model: Sound2Scene, sounds: Sequence[Sound], toward: Toward | Picture, n: int, seed: int
) -> list[Row]:
    """Return each sound's pictures, its spectrogram under what speaks for them.

    toward: "made": the mean feature of these pictures; "own": the sound's feature itself; or a
    given picture.
    """
    rows = []
    for sound in sounds:
        fitted = fit(sound, model.spec)
        images = model.draw(model.hear(fitted), model.noise(sound.name, n, seed))
        target, name = None, "its own feature"
        if isinstance(toward, Picture):
            target, name = model.see(toward.image), toward.name
            images = np.concatenate([_resized(model, toward)[None], images])
        elif toward == "made":
            target, name = (
                torch.stack([model.see(image) for image in images]).mean(0),
                "its pictures",
            )
        heat = sound_map(model, fitted, target)
        rows.append(
            Row(
                title=sound.name,
                note=f"what speaks for {name}" if heat.any() else f"nothing speaks for {name}",
                panel=_panel(model, fitted, heat),
                images=images,
                headings=[name] if isinstance(toward, Picture) else (),
                facts={"sound": sound.name, "toward": name, "peak": float(heat.max())},
            )
        )
    return rows


def sound_map(
    model: Sound2Scene, fitted: NDArray[np.float32], target: Tensor | None
) -> NDArray[np.float32]:
    """Return Grad-CAM [F, N] over the spectrogram, from the last stage of the audio ResNet.

    Of cos(z^A, target), or without a target of ‖z^A‖.
    """
    x = model.spectrogram(fitted)
    encoder = model.audio_encoder
    assert encoder is not None
    score = own_length if target is None else cosine_to(target)
    heat: NDArray[np.float32] = grad_cam(encoder, encoder.trunk.layer4, x, score)[0].cpu().numpy()
    return heat


def _sound_row(
    model: Sound2Scene,
    sound: Sound,
    n: int,
    seed: int,
    noise_key: str,
    gain_db: float | None = None,
) -> Row:
    """Return pictures of a sound; a gain that is given stands in the title."""
    fitted = _at_gain(model, sound, gain_db or 0.0)
    heard_s = min(sound.duration_s, model.hears[1])
    sign = "+" if gain_db and gain_db > 0 else ""
    level = "" if gain_db is None else f", {sign}{gain_db:g} dB"
    filled = "repeated" if model.spec.fill == "tile" else "then silence"
    return Row(
        title=f"{sound.name}{level}",
        note=f"{heard_s:.4g} s" + (f", {filled}" if sound.duration_s < model.hears[1] else ""),
        panel=_panel(model, fitted),
        images=model.draw(model.hear(fitted), model.noise(noise_key, n, seed)),
        facts={
            "sound": sound.name,
            "duration_s": sound.duration_s,
            "gain_db": gain_db or 0.0,
            "noise_key": noise_key,
        },
    )


def _at_gain(model: Sound2Scene, sound: Sound, gain_db: float) -> NDArray[np.float32]:
    return mixed([fit(sound, model.spec)], [amplitude(gain_db)])


def _feature(model: Sound2Scene, end: Sound | Picture) -> Tensor:
    return model.hear(end) if isinstance(end, Sound) else model.see(end.image)


def _end_panel(model: Sound2Scene, end: Sound | Picture) -> Panel:
    if isinstance(end, Sound):
        return _panel(model, fit(end, model.spec))
    return picture_panel(end.image, _size(model))


def _panel(
    model: Sound2Scene, fitted: NDArray[np.float32], heat: NDArray[np.float32] | None = None
) -> Panel:
    seen = model.spectrogram(fitted)[0, 0].cpu().numpy()
    return sound_panel(fitted, seen, model.spec, _size(model), heat)


def _size(model: Sound2Scene) -> tuple[int, int]:
    return panel_size(model.generator.resolution)


def _resized(model: Sound2Scene, picture: Picture) -> NDArray[np.uint8]:
    side = model.generator.resolution
    return np.array(resize(picture.image, side, side))
