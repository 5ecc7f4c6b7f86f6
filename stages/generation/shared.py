"""The commands of `stages.generate` that families share; families that can offer them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from avdata.errors import SettingsError
from stages.generation.commands import (
    CONTENT,
    ONE,
    PICTURE,
    ROWS,
    SOUNDS,
    Command,
    Job,
    Option,
    decibels,
    within,
)

if TYPE_CHECKING:
    from stages.generation.painter import Explains, HasLatents


def sound(job: Job) -> None:
    """Pictures of each sound."""
    from stages.generation.rows import sound_rows

    given, columns = job.given, job.columns()
    rows = sound_rows(columns, job.sounds(given.sounds), job.frames(given.sounds))
    job.write("Pictures of sounds", [*columns.given(), *rows])


def image(job: Job) -> None:
    """Pictures in the manner of each picture, without any sound."""
    from stages.generation.rows import image_rows

    given = job.given
    rows = image_rows(job.painter, job.pictures(given.images), given.number, given.seed)
    job.write("Pictures like pictures", rows)


def mix(job: Job) -> None:
    """Pictures of several sounds heard together, each at a gain of its own."""
    from stages.generation.rows import mix_rows

    given, columns = job.given, job.columns()
    gains_db = given.gain_db or [0.0] * len(given.sounds)
    if len(gains_db) != len(given.sounds):
        raise SettingsError(f"{len(given.sounds)} sounds, but --gain-db was given {len(gains_db)}×")
    rows = mix_rows(columns, job.sounds(given.sounds), gains_db)
    job.write("Sounds heard together", [*columns.given(), *rows])


def blend(job: Job) -> None:
    """Pictures from one sound to another, or of several by shares: Σ wᵢ xᵢ, Σ wᵢ = 1."""
    from stages.generation.rows import blend_rows

    given, columns = job.given, job.columns()
    shares = blend_shares(len(given.sounds), given.shares, given.rows)
    rows = blend_rows(columns, job.sounds(given.sounds), shares)
    job.write("Sounds blended", [*columns.given(), *rows], steps=rows)


def blend_shares(n: int, shares: Sequence[float] | None, rows: int) -> list[list[float]]:
    """Return the weights of each row: of two sounds from one to the other, else each and all.

    shares: of the n sounds in the last row, brought to a sum of 1; None: equal ones. Raises
    SettingsError for fewer than two sounds, another number of shares, or none above 0.
    """
    if n < 2:
        raise SettingsError(f"blending needs two or more sounds, got {n}")
    if shares is None and n == 2:
        return [[1 - row / (rows - 1), row / (rows - 1)] for row in range(rows)]
    wanted = shares or [1.0] * n
    if len(wanted) != n or not sum(wanted) > 0:
        raise SettingsError(
            f"--shares needs a number of 0 or more for each of the {n} sounds, one above 0; "
            f"got {' '.join(f'{share:g}' for share in wanted)}"
        )
    alone = [[float(row == sound) for sound in range(n)] for row in range(n)]
    return [*alone, [share / sum(wanted) for share in wanted]]


def sweep(job: Job) -> None:
    """Pictures of one sound at several volumes, the noise or the content held fixed."""
    from stages.generation.rows import sweep_rows

    given, columns = job.given, job.columns()
    (one,) = job.sounds([given.sound])
    rows = sweep_rows(columns, one, given.gains_db)
    job.write(f"{one.name}, softer and louder", [*columns.given(), *rows], steps=rows)


def film(job: Job) -> None:
    """A video restyled picture by picture by its own sound, or another, at several volumes."""
    from stages.generation.film_results import write_films

    given = job.given
    write_films(job, Path(given.video), given.by, given.gains_db, given.smooth_s)


def interpolate(job: Job) -> None:
    """Pictures between two features, of sounds or pictures, the noise held fixed."""
    from stages.generation.rows import interpolation_rows

    given, painter = job.given, cast("HasLatents", job.painter)
    first, second = job.end(given.first), job.end(given.second)
    shares = [n / (given.rows - 1) for n in range(given.rows)]
    ends = (first, second)
    rows = interpolation_rows(painter, ends, shares, given.way, given.number, given.seed)
    job.write(f"From {first.name} to {second.name}", rows, steps=rows)


def gradcam(job: Job) -> None:
    """What in the spectrogram speaks for a feature (Grad-CAM)."""
    from stages.generation.rows import gradcam_rows

    given, painter = job.given, cast("Explains", job.painter)
    toward = given.toward
    if toward not in ("made", "own"):
        (toward,) = job.pictures([toward])
    rows = gradcam_rows(painter, job.sounds(given.sounds), toward, given.number, given.seed)
    job.write("What it listens to", rows)


COMMANDS = (
    Command(work=sound, needs=frozenset({"hears"}), options=(SOUNDS, CONTENT)),
    Command(
        work=image,
        needs=frozenset({"sees"}),
        options=(Option(("images",), {"nargs": "+", "help": PICTURE}),),
    ),
    Command(
        work=mix,
        needs=frozenset({"hears"}),
        options=(
            SOUNDS,
            CONTENT,
            Option(
                ("--gain-db",),
                {
                    "type": decibels,
                    "action": "append",
                    "help": "gain of each sound, in their order (0)",
                },
            ),
        ),
    ),
    Command(
        work=blend,
        needs=frozenset({"hears"}),
        options=(
            SOUNDS,
            CONTENT,
            ROWS,
            Option(
                ("--shares",),
                {
                    "type": within(0, 1e6),
                    "nargs": "+",
                    "metavar": "W",
                    "help": "of each sound, instead of steps from one of two to the other",
                },
            ),
        ),
    ),
    Command(
        work=sweep,
        needs=frozenset({"hears"}),
        options=(
            Option(("sound",), {"help": ONE}),
            CONTENT,
            Option(
                ("--gains-db",),
                {
                    "type": decibels,
                    "nargs": "+",
                    "default": [-40, -30, -20, -10, 0, 10, 20],
                    "metavar": "G",
                    "help": "gains in dB, one row each",
                },
            ),
        ),
    ),
    Command(
        work=film,
        needs=frozenset({"hears", "restyles"}),
        options=(
            Option(("video",), {"help": "a video file"}),
            Option(
                ("--by",),
                {"metavar": "SOUND", "help": "a media file whose sound restyles it (its own)"},
            ),
            Option(
                ("--gains-db",),
                {
                    "type": decibels,
                    "nargs": "+",
                    "default": [0.0],
                    "metavar": "G",
                    "help": "of the sound, a film for each (0)",
                },
            ),
            Option(
                ("--smooth-s",),
                {
                    "type": within(0, math.inf),
                    "default": 0.5,
                    "metavar": "S",
                    "help": "deviation over which the style is smoothed; inf: one style (0.5)",
                },
            ),
        ),
    ),
    Command(
        work=interpolate,
        needs=frozenset({"hears", "sees", "has_latents"}),
        options=(
            *(
                Option((end,), {"help": f"{ONE}; or a still image, or image:KEY"})
                for end in ("first", "second")
            ),
            ROWS,
            Option(
                ("--way",),
                {
                    "choices": ("lerp", "slerp"),
                    "default": "lerp",
                    "help": "mean of features, equal angles",
                },
            ),
        ),
    ),
    Command(
        work=gradcam,
        needs=frozenset({"hears", "sees", "explains"}),
        options=(
            SOUNDS,
            Option(
                ("--toward",),
                {
                    "default": "own",
                    "help": "own: its feature; made: its pictures; or an image (own)",
                },
            ),
        ),
    ),
)
"""Families that have what a command needs offer it."""
