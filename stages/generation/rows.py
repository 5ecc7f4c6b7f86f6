"""What the shared commands make, as rows of a contact sheet; they know painters, no family.

Pictures in one column share their noise, or the picture they restyle, wherever rows are steps of
one thing (gains, shares, mixes): what differs between them is what was changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from avdata.frames import squash
from stages.generation.columns import Columns, Noises
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask, Explains, HasLatents, Hears, Painter
from stages.generation.sheets import (
    Panel,
    SheetRow,
    beside,
    panel_size,
    picture_panel,
    share_panel,
    sound_panel,
)
from stages.generation.sounds import amplitude, clipped_share, fit, spoken, together

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.nn.sphere import Way

Toward = Literal["made", "own"]
CLIPPED = 0.01  # share of samples at full scale from which on it is said


def sound_rows(
    columns: Columns,
    sounds: Sequence[Sound],
    frames: Sequence[NDArray[np.uint8] | None] | None = None,
) -> list[SheetRow]:
    """Return pictures of each sound; frames: what was seen where it was heard, for those known."""
    seen = frames or [None] * len(sounds)
    rows = [sound_row(columns, sound, sound.name) for sound in sounds]
    return [
        row if frame is None or row.panel is None else replace(row, panel=beside(row.panel, frame))
        for row, frame in zip(rows, seen, strict=True)
    ]


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
    columns: Columns, sounds: Sequence[Sound], gains_db: Sequence[float]
) -> list[SheetRow]:
    """Return pictures of each sound alone at its gain, then of their sum; the noise is the same."""
    name = " + ".join(sound.name for sound in sounds)
    rows = [
        sound_row(columns, sound, name, gain_db)
        for sound, gain_db in zip(sounds, gains_db, strict=True)
    ]
    heard = together(sounds, [amplitude(gain_db) for gain_db in gains_db], columns.painter.spec)
    mix = SheetRow(
        title=name,
        note="mixed",
        panel=heard_panel(columns.painter, heard.samples),
        images=columns.of(heard, name),
        headings=columns.headings,
        facts={"sounds": [s.name for s in sounds], "gains_db": list(gains_db)},
    )
    return [*rows, mix]


def blend_rows(
    columns: Columns, sounds: Sequence[Sound], shares: Sequence[Sequence[float]]
) -> list[SheetRow]:
    """Return pictures of Σ wᵢ xᵢ for each w of `shares`, whose numbers add up to 1.

    Each sound is fitted by itself and so has its own full level; the noise is held fixed.
    """
    name = " + ".join(sound.name for sound in sounds)
    rows = []
    for weights in shares:
        heard = together(sounds, weights, columns.painter.spec)
        parts = zip(weights, sounds, strict=True)
        rows.append(
            SheetRow(
                title=" · ".join(f"{weight:.0%} {sound.name}" for weight, sound in parts),
                panel=heard_panel(columns.painter, heard.samples),
                images=columns.of(heard, name),
                headings=columns.headings,
                facts={"sounds": [s.name for s in sounds], "shares": list(weights)},
            )
        )
    return rows


def sweep_rows(columns: Columns, sound: Sound, gains_db: Sequence[float]) -> list[SheetRow]:
    """Return pictures of one sound at several volumes; the noise is held fixed."""
    return [sound_row(columns, sound, sound.name, gain_db) for gain_db in gains_db]


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
        images = Noises(painter, n, seed).of(sound, sound.name)
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
    columns: Columns, sound: Sound, noise_key: str, gain_db: float | None = None
) -> SheetRow:
    """Return the pictures of a sound; a gain that is given stands in the title."""
    spec = columns.painter.spec
    louder = at_gain(columns.painter, sound, gain_db or 0.0)
    longest_s = spec.n_samples / spec.sample_rate_hz
    heard_s = min(sound.duration_s, longest_s)
    level = "" if gain_db is None else f", {spoken(gain_db)}"
    filled = "repeated" if spec.fill == "tile" else "then silence"
    clipped = clipped_share(sound)
    hurt = f"; clipped: {clipped:.0%} of it is at full scale" if clipped > CLIPPED else ""
    return SheetRow(
        title=f"{sound.name}{level}",
        note=f"{heard_s:.4g} s" + (f", {filled}" if sound.duration_s < longest_s else "") + hurt,
        panel=heard_panel(columns.painter, louder.samples),
        images=columns.of(louder, noise_key),
        headings=columns.headings,
        facts={
            "sound": sound.name,
            "duration_s": sound.duration_s,
            "gain_db": gain_db or 0.0,
            "noise_key": noise_key,
            "clipped_share": clipped,
        },
    )


def at_gain(painter: Hears, sound: Sound, gain_db: float) -> Sound:
    """Return the sound fitted to the front-end, then amplified."""
    return together([sound], [amplitude(gain_db)], painter.spec)


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


def _end_panel(painter: Hears, end: Sound | Picture) -> Panel:
    if isinstance(end, Sound):
        return heard_panel(painter, fit(end, painter.spec))
    return picture_panel(end.image, size_of(painter))
