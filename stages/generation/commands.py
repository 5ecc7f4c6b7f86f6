"""The commands of `stages.generate` that families share: what each needs, takes and makes.

A family adds its own by listing `Command`s in its record; `needs` tells which families have one.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from avdata.errors import SettingsError

if TYPE_CHECKING:
    from stages.generation.inputs import Picture, Sound
    from stages.generation.painter import Ability, Explains, HasLatents, Hears, Painter
    from stages.generation.sheets import SheetRow

SEVERAL, ONE = "media files, or keys of clips of the run", "a media file, or a clip's key"
PICTURE = "a still image, KEY (a clip's best frame) or KEY:FRAME"


@dataclass(frozen=True, slots=True)
class Job:
    """The painter, and the options that all commands share."""

    given: argparse.Namespace
    painter: Painter
    folder: Path  # for results

    def sounds(self, names: Sequence[str]) -> list[Sound]:
        """Return the sounds of these names, at the painter's rate and of its length at most."""
        from stages.generation.inputs import read_sound

        hears = cast("Hears", self.painter).hears
        return [read_sound(name, *hears, self.given.run, self.given.start_s) for name in names]

    def pictures(self, names: Sequence[str]) -> list[Picture]:
        """Return the pictures of these names."""
        from stages.generation.inputs import read_picture

        return [read_picture(name, self.given.run) for name in names]

    def end(self, name: str) -> Sound | Picture:
        """Return a picture or a sound; sounds alone need a painter that hears."""
        from stages.generation.inputs import read_input

        painter = cast("Hears", self.painter)
        return read_input(name, lambda: painter.hears, self.given.run, self.given.start_s)

    def write(self, title: str, rows: Sequence[SheetRow], steps: Sequence[SheetRow] = ()) -> None:
        """Write the results and say where they are."""
        from stages.generation.results import SHEET_NAME, write_results

        given = self.given
        options = {name: value for name, value in vars(given).items() if name != "output"}
        facts = {
            "command": given.command,
            "seed": given.seed,
            "options": options,
            "models": self.painter.sources,
        }
        write_results(self.folder, title, rows, facts, steps=steps)
        count = sum(len(row.images) for row in rows)
        print(f"{count} pictures; look at {self.folder / SHEET_NAME}")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command line: names and the keywords of argparse's add_argument."""

    names: tuple[str, ...]
    keywords: dict[str, Any] = field(default_factory=dict)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare the option."""
        parser.add_argument(*self.names, **self.keywords)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What one command does; its name and help are those of `work`."""

    work: Callable[[Job], None]
    needs: frozenset[Ability]
    options: tuple[Option, ...]

    @property
    def name(self) -> str:
        return self.work.__name__

    @property
    def help(self) -> str:
        return (self.work.__doc__ or "").strip()


def sound(job: Job) -> None:
    """Pictures of each sound."""
    from stages.generation.rows import sound_rows

    given, painter = job.given, cast("Hears", job.painter)
    rows = sound_rows(painter, job.sounds(given.sounds), given.number, given.seed)
    job.write("Pictures of sounds", rows)


def image(job: Job) -> None:
    """Pictures in the manner of each picture, without any sound."""
    from stages.generation.rows import image_rows

    given = job.given
    rows = image_rows(job.painter, job.pictures(given.images), given.number, given.seed)
    job.write("Pictures like pictures", rows)


def mix(job: Job) -> None:
    """Pictures of several sounds heard together, each at a gain of its own."""
    from stages.generation.rows import mix_rows

    given, painter = job.given, cast("Hears", job.painter)
    gains_db = given.gain_db or [0.0] * len(given.sounds)
    if len(gains_db) != len(given.sounds):
        raise SettingsError(f"{len(given.sounds)} sounds, but --gain-db was given {len(gains_db)}×")
    rows = mix_rows(painter, job.sounds(given.sounds), gains_db, given.number, given.seed)
    job.write("Sounds heard together", rows)


def sweep(job: Job) -> None:
    """Pictures of one sound at several volumes, the noise held fixed."""
    from stages.generation.rows import sweep_rows

    given, painter = job.given, cast("Hears", job.painter)
    (one,) = job.sounds([given.sound])
    rows = sweep_rows(painter, one, given.gains_db, given.number, given.seed)
    job.write(f"{one.name}, softer and louder", rows, steps=rows)


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


def positive(text: str) -> int:
    """Read a whole number of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def within(low: float, high: float) -> Callable[[str], float]:
    """Return what reads a number from low to high; NaN is none."""

    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}, got {text}")
        return value

    return number


def _rows(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("both ends make two rows; give 2 or more")
    return int(text)


GAIN = within(-math.inf, 200)
SOUNDS = Option(("sounds",), {"nargs": "+", "help": SEVERAL})

COMMANDS = (
    Command(work=sound, needs=frozenset({"hears"}), options=(SOUNDS,)),
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
            Option(
                ("--gain-db",),
                {
                    "type": GAIN,
                    "action": "append",
                    "help": "gain of each sound, in their order (0)",
                },
            ),
        ),
    ),
    Command(
        work=sweep,
        needs=frozenset({"hears"}),
        options=(
            Option(("sound",), {"help": ONE}),
            Option(
                ("--gains-db",),
                {
                    "type": GAIN,
                    "nargs": "+",
                    "default": [-40, -30, -20, -10, 0, 10, 20],
                    "metavar": "G",
                    "help": "gains in dB, one row each",
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
            Option(("--rows",), {"type": _rows, "default": 7, "help": "steps (7)"}),
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
