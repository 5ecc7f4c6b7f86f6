"""What the shared commands make, as rows of a contact sheet; they know painters, no family.

Pictures in one column share their noise within a row and, wherever rows are steps of one thing
(gains, shares, mixes), across rows: what differs between them is what was changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from avdata.frames import squash
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask, Explains, HasLatents, Hears, Painter
from stages.generation.sheets import (
    Panel,
    SheetRow,
    panel_size,
    picture_panel,
    share_panel,
    sound_panel,
)
from stages.generation.sounds import amplitude, fit, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.nn.sphere import Way

Toward = Literal["made", "own"]


def sound_rows(painter: Hears, sounds: Sequence[Sound], n: int, seed: int) -> list[SheetRow]:
    """Return n pictures of each sound."""
    return [sound_row(painter, sound, n, seed, sound.name) for sound in sounds]


def image_rows(painter: Painter, pictures: Sequence[Picture], n: int, seed: int) -> list[SheetRow]:
    """Return n pictures in the manner of each picture."""
    return [
        SheetRow(
            title=picture.name,
            panel=picture_panel(picture.image, size_of(painter)),
            images=painter.paint(
                [Ask(key=picture.name, number=i, picture=picture) for i in range(n)], seed
            ),
            facts={"image": picture.name},
        )
        for picture in pictures
    ]


def mix_rows(
    painter: Hears, sounds: Sequence[Sound], gains_db: Sequence[float], n: int, seed: int
) -> list[SheetRow]:
    """Return pictures of each sound alone at its gain, then of their sum; the noise is the same."""
    name = " + ".join(sound.name for sound in sounds)
    rows = [
        sound_row(painter, sound, n, seed, name, gain_db)
        for sound, gain_db in zip(sounds, gains_db, strict=True)
    ]
    spec = painter.spec
    fitted = mixed([fit(s, spec) for s in sounds], [amplitude(g) for g in gains_db])
    together = SheetRow(
        title=name,
        note="mixed",
        panel=heard_panel(painter, fitted),
        images=_painted(painter, Sound(name, fitted, spec.sample_rate_hz), name, n, seed),
        facts={"sounds": [s.name for s in sounds], "gains_db": list(gains_db)},
    )
    return [*rows, together]


def sweep_rows(
    painter: Hears, sound: Sound, gains_db: Sequence[float], n: int, seed: int
) -> list[SheetRow]:
    """Return pictures of one sound at several volumes; the noise is held fixed."""
    return [sound_row(painter, sound, n, seed, sound.name, gain_db) for gain_db in gains_db]


def interpolation_rows(
    painter: HasLatents,
    ends: tuple[Sound | Picture, Sound | Picture],
    shares: Sequence[float],
    way: Way,
    n: int,
    seed: int,
) -> list[SheetRow]:
    """Return pictures from one end to the other, one row for each share of the second."""
    a, b = (painter.latent(end) for end in ends)
    names = (ends[0].name, ends[1].name)
    noise = painter.noise(" to ".join(names), n, seed)
    rows = []
    for share in shares:
        panel = share_panel(share, names, size_of(painter))
        if share in (0, 1):
            panel = _end_panel(painter, ends[int(share)])
        latent, angle_rad = painter.between(a, b, share, way)
        rows.append(
            SheetRow(
                title=f"{1 - share:.0%} {names[0]} · {share:.0%} {names[1]}",
                note=f"{math.degrees(angle_rad):.1f}° from {names[0]}",
                panel=panel,
                images=painter.draw(latent, noise),
                facts={"share": share, "way": way, "ends": list(names)},
            )
        )
    return rows


def gradcam_rows(
    painter: Explains, sounds: Sequence[Sound], toward: Toward | Picture, n: int, seed: int
) -> list[SheetRow]:
    """Return each sound's pictures, its spectrogram under what speaks for them.

    toward: "made": the mean latent of these pictures; "own": the sound's latent itself; or a
    given picture.
    """
    rows = []
    for sound in sounds:
        fitted = fit(sound, painter.spec)
        images = _painted(painter, sound, sound.name, n, seed)
        target, name = None, "its own feature"
        if isinstance(toward, Picture):
            target, name = painter.latent(toward), toward.name
            images = np.concatenate([resized(painter, toward)[None], images])
        elif toward == "made":
            seen = [painter.latent(Picture(sound.name, image)) for image in images]
            target, name = sum(seen[1:], start=seen[0]) / len(seen), "its pictures"
        heat = painter.sound_map(fitted, target)
        rows.append(
            SheetRow(
                title=sound.name,
                note=f"what speaks for {name}" if heat.any() else f"nothing speaks for {name}",
                panel=heard_panel(painter, fitted, heat),
                images=images,
                headings=[name] if isinstance(toward, Picture) else (),
                facts={"sound": sound.name, "toward": name, "peak": float(heat.max())},
            )
        )
    return rows


def sound_row(
    painter: Hears,
    sound: Sound,
    n: int,
    seed: int,
    noise_key: str,
    gain_db: float | None = None,
) -> SheetRow:
    """Return n pictures of a sound; a gain that is given stands in the title."""
    spec = painter.spec
    louder = at_gain(painter, sound, gain_db or 0.0)
    longest_s = spec.n_samples / spec.sample_rate_hz
    heard_s = min(sound.duration_s, longest_s)
    sign = "+" if gain_db and gain_db > 0 else ""
    level = "" if gain_db is None else f", {sign}{gain_db:g} dB"
    filled = "repeated" if spec.fill == "tile" else "then silence"
    return SheetRow(
        title=f"{sound.name}{level}",
        note=f"{heard_s:.4g} s" + (f", {filled}" if sound.duration_s < longest_s else ""),
        panel=heard_panel(painter, louder.samples),
        images=_painted(painter, louder, noise_key, n, seed),
        facts={
            "sound": sound.name,
            "duration_s": sound.duration_s,
            "gain_db": gain_db or 0.0,
            "noise_key": noise_key,
        },
    )


def at_gain(painter: Hears, sound: Sound, gain_db: float) -> Sound:
    """Return the sound fitted to the front-end, then amplified."""
    fitted = mixed([fit(sound, painter.spec)], [amplitude(gain_db)])
    return Sound(sound.name, fitted, sound.rate_hz)


def heard_panel(
    painter: Hears, fitted: NDArray[np.float32], heat: NDArray[np.float32] | None = None
) -> Panel:
    """Draw what is heard of a fitted sound [n_samples], under a map of what speaks for it."""
    seen = painter.spectrogram(fitted)[0, 0].cpu().numpy()
    return sound_panel(fitted, seen, painter.spec, size_of(painter), heat)


def size_of(painter: Painter) -> tuple[int, int]:
    """Return width and height of the panel beside this painter's pictures."""
    return panel_size(painter.resolution_px)


def resized(painter: Painter, picture: Picture) -> NDArray[np.uint8]:
    """Return a picture at the size of the painter's own."""
    side = painter.resolution_px
    return np.array(squash(picture.image, side, side))


def _painted(
    painter: Painter, sound: Sound, noise_key: str, n: int, seed: int
) -> NDArray[np.uint8]:
    return painter.paint([Ask(key=noise_key, number=i, sound=sound) for i in range(n)], seed)


def _end_panel(painter: Hears, end: Sound | Picture) -> Panel:
    if isinstance(end, Sound):
        return heard_panel(painter, fit(end, painter.spec))
    return picture_panel(end.image, size_of(painter))
