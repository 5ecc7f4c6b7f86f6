"""What a command of `stages.generate` is: what it needs, takes and makes.

Those that families share stand in shared.py; a family adds its own by listing `Command`s in its
record. `needs` tells which families have one.
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
    import numpy as np
    from numpy.typing import NDArray

    from stages.family import Family
    from stages.generation.columns import Columns, Starts
    from stages.generation.inputs import Picture, Sound
    from stages.generation.painter import Ability, Hears, Moves, Painter, Restyles
    from stages.generation.sheets import SheetRow

SEVERAL, ONE = "media files, or keys of clips of the run", "a media file, or a clip's key"
PICTURE = "a still image, KEY (a clip's best frame) or KEY:FRAME"


@dataclass(frozen=True, slots=True)
class Job:
    """The painter, what its family can, and the options that all commands share."""

    given: argparse.Namespace
    painter: Painter
    folder: Path  # for results
    abilities: frozenset[Ability] = frozenset()

    def sounds(self, names: Sequence[str]) -> list[Sound]:
        """Return the sounds of these names, at the painter's rate and of its length at most."""
        from stages.generation.inputs import read_sound

        hears = cast("Hears", self.painter).hears
        return [read_sound(name, *hears, self.given.run, self.given.start_s) for name in names]

    def frames(self, names: Sequence[str]) -> list[NDArray[np.uint8] | None]:
        """Return what was seen where these sounds were heard; None where there is no picture."""
        from stages.generation.inputs import read_frame

        _, heard_s = cast("Hears", self.painter).hears
        return [read_frame(name, heard_s, self.given.run, self.given.start_s) for name in names]

    def columns(self) -> Columns:
        """Return what stands in the columns: noises, or the contents that are restyled."""
        from stages.generation.columns import Contents, Noises

        if "restyles" in self.abilities:
            return Contents(cast("Restyles", self.painter), self.pictures(self.given.content))
        if "moves" in self.abilities:
            return self.starts()
        return Noises(cast("Hears", self.painter), self.given.number, self.given.seed)

    def starts(self) -> Starts:
        """Return the pictures that are moved: the contents that are given, or drawn ones."""
        from stages.generation.columns import Starts

        given, painter = self.given, cast("Moves", self.painter)
        return Starts(painter, self.pictures(given.content or ()), given.number, given.seed)

    def pictures(self, names: Sequence[str]) -> list[Picture]:
        """Return the pictures of these names."""
        from stages.generation.inputs import read_picture

        return [read_picture(name, self.given.run) for name in names]

    def end(self, name: str) -> Sound | Picture:
        """Return a picture or a sound; sounds alone need a painter that hears."""
        from stages.generation.inputs import read_input

        painter = cast("Hears", self.painter)
        return read_input(name, lambda: painter.hears, self.given.run, self.given.start_s)

    def write(
        self,
        title: str,
        rows: Sequence[SheetRow],
        steps: Sequence[SheetRow] = (),
        **more: Any,
    ) -> None:
        """Write the results and say where they are; more: plain values for result.json."""
        from stages.generation.results import SHEET_NAME, write_results

        given = self.given
        title = given.title or title
        options = {name: value for name, value in vars(given).items() if name != "output"}
        facts = {
            "command": given.command,
            "seed": given.seed,
            "options": options,
            "models": self.painter.sources,
            **more,
        }
        write_results(self.folder, title, rows, facts, steps=steps)
        count = sum(len(row.images) for row in rows)
        print(f"{count} pictures; look at {self.folder / SHEET_NAME}")


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command line: names and the keywords of argparse's add_argument."""

    names: tuple[str, ...]
    keywords: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name among the values that were given."""
        return self.names[-1].lstrip("-").replace("-", "_")

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


def require_content(given: argparse.Namespace, family: Family) -> None:
    """Raise SettingsError if a family that restyles is given no content, or another family some."""
    if not hasattr(given, "content"):
        return
    if "restyles" in family.abilities and not given.content:
        raise SettingsError(f"{family.title} restyles pictures: give --content, one or more")
    if given.content and not family.abilities & {"restyles", "moves"}:
        raise SettingsError(
            f"--content: {family.title} paints of sounds alone, it restyles nothing"
        )


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


def two_or_more(text: str) -> int:
    """Read a number of rows or pictures from one end to the other."""
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("both ends make two; give 2 or more")
    return int(text)


def decibels(text: str) -> float:
    """Read a gain; `silence` is −inf, which a command line would take for an option."""
    return -math.inf if text == "silence" else within(-math.inf, 200)(text)


SOUNDS = Option(("sounds",), {"nargs": "+", "help": SEVERAL})
CONTENT = Option(
    ("--content",),
    {
        "nargs": "+",
        "metavar": "PICTURE",
        "help": f"what is restyled or moved, by families that do: {PICTURE}",
    },
)
ROWS = Option(("--rows",), {"type": two_or_more, "default": 7, "help": "steps (7)"})
