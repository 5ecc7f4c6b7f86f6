"""Commands of `stages.generate` that need a generator to be searched: invert and edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from stages.generation.commands import (
    PICTURE,
    Command,
    Job,
    Option,
    decibels,
    positive,
    within,
)

if TYPE_CHECKING:
    import argparse

    from stages.sound2scene.scene import Sound2Scene


def invert(job: Job) -> None:
    """Find the noise and the feature from which the generator makes a picture."""
    from stages.sound2scene.inversion_rows import inversion_row

    (picture,) = job.pictures([job.given.image])
    model = cast("Sound2Scene", job.painter)
    row, _ = inversion_row(model, picture, job.given.seed, **_search(job.given))
    job.write("A picture found again", [row])


def edit(job: Job) -> None:
    """Find a picture again, and move it along the difference of two sounds."""
    from stages.generation.sheets import unrolled
    from stages.sound2scene.inversion_rows import edit_rows

    given = job.given
    (picture,) = job.pictures([given.image])
    source, target = job.sounds([given.source, given.target])
    rows = edit_rows(
        cast("Sound2Scene", job.painter),
        picture,
        source,
        target,
        gains_db=(given.from_gain_db, given.to_gain_db),
        strengths=given.strengths,
        n=given.number,
        seed=given.seed,
        **_search(given),
    )
    job.write(f"{picture.name}, from {source.name} to {target.name}", rows, unrolled(rows[-1]))


def _search(given: argparse.Namespace) -> dict[str, float]:
    return {"steps": given.steps, "candidates": given.candidates, "lr": given.lr}


SEARCH = (
    Option(("image",), {"help": PICTURE}),
    Option(("--steps",), {"type": positive, "default": 500, "help": "of the search (500)"}),
    Option(("--candidates",), {"type": positive, "default": 32, "help": "starts it draws (32)"}),
    Option(
        ("--lr",), {"type": within(1e-6, 10), "default": 0.05, "help": "its learning rate (0.05)"}
    ),
)
ENDS = tuple(
    option
    for name, dest in (("from", "source"), ("to", "target"))
    for option in (
        Option((f"--{name}",), {"dest": dest, "required": True, "metavar": "SOUND"}),
        Option((f"--{name}-gain-db",), {"type": decibels, "default": 0.0, "metavar": "G"}),
    )
)
STRENGTHS = Option(
    ("--strengths",),
    {"type": within(-100, 100), "nargs": "+", "default": [0, 0.5, 1, 1.5, 2], "metavar": "A"},
)

COMMANDS = (
    Command(work=invert, needs=frozenset({"inverts"}), options=SEARCH),
    Command(work=edit, needs=frozenset({"hears", "inverts"}), options=(*SEARCH, *ENDS, STRENGTHS)),
)
