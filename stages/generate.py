"""Pictures from sounds: python -m stages.generate COMMAND ... --run runs/demo

    sound a.wav b.mp4      pictures of each sound        sweep a.wav      at several volumes
    image a.jpg            pictures like this one        interpolate A B  from one to another
    mix a.wav b.wav        pictures of both together     gradcam a.wav    what it listens to
    invert a.jpg           a picture found again         edit a.jpg       moved along two sounds
    blend a.wav b.wav      from one sound to another     film a.mp4       restyled by its sound

Which families have a command stands in its --help; --family chooses one where the run has trained
several. Writes images/, sheet.png, film.gif where there are steps, and result.json;
docs/generate.md.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from avdata.errors import SettingsError
from stages.engine.launch import explained_ends
from stages.families import FAMILIES, able, families, family, trained_in
from stages.family import Family, Opening
from stages.generation.commands import (
    Command,
    Job,
    Option,
    positive,
    require_content,
    within,
)
from stages.generation.shared import COMMANDS


def commands() -> dict[str, tuple[Command, list[Family]]]:
    """Return every command by name, and the families that have it."""
    found = {command.name: (command, able(command.needs)) for command in COMMANDS}
    for one in families():
        for command in one.commands:
            found.setdefault(command.name, (command, []))[1].append(one)
    return found


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="python -m stages.generate", description="Pictures from sounds."
    )
    added = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (command, offering) in commands().items():
        families_text = ", ".join(one.title for one in offering)
        own = added.add_parser(
            name, help=command.help, description=f"{command.help} Families: {families_text}."
        )
        for option in command.options:
            option.add_to(own)
        _add_common(own)
    return top


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", help="output folder of a pipeline: its trainings, its clips")
    parser.add_argument("--family", help=f"of models ({', '.join(FAMILIES)}); else the run's first")
    for option in _opening_options():
        option.add_to(parser)
    parser.add_argument("-o", "--output", type=Path, help="folder (generated/COMMAND)")
    parser.add_argument("--title", help="of the sheet, and of the chapter in a report")
    parser.add_argument("-n", "--number", type=positive, default=4, help="pictures of each (4)")
    parser.add_argument("--seed", type=int, default=0, help="of all noise (0)")
    parser.add_argument(
        "--start-s", type=within(0, 1e6), default=0.0, help="where sounds begin (0)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def _opening_options() -> list[Option]:
    """Return one option for each part of any family, then the families' own; each once."""
    parts = dict.fromkeys(part for one in families() for part in one.parts)
    named = [
        Option((_flag(part),), {"help": f"{part.replace('_', ' ')} in the place of the run's"})
        for part in parts
    ]
    own = {option.names: option for one in families() for option in one.options}
    return [*named, *own.values()]


def _flag(part: str) -> str:
    return "--" + part.replace("_", "-")


def chosen_family(given: argparse.Namespace, offering: Sequence[Family]) -> Family:
    """Return the family that is asked for, or else the first that the run or the parts speak for.

    Raises SettingsError if it does not have the command; the message names those that do.
    """
    having = ", ".join(one.name for one in offering)
    if given.family is not None:
        one = family(given.family)
    else:
        named = [f for f in families() if any(getattr(given, part) for part in f.parts)]
        meant = named or trained_in(given.run) or list(offering)
        one = next((f for f in meant if f in offering), meant[0])
    if one not in offering:
        raise SettingsError(f"{one.name} has no command {given.command}; these have: {having}")
    return one


def opening(given: argparse.Namespace, one: Family) -> Opening:
    """Return where the painter's parts come from; raises SettingsError for parts of others."""
    everything = {part for other in families() for part in other.parts}
    strange = [part for part in everything - set(one.parts) if getattr(given, part)]
    if strange:
        raise SettingsError(
            f"{', '.join(map(_flag, sorted(strange)))}: {one.name} has no such part; it has "
            f"{', '.join(map(_flag, one.parts))}"
        )
    return Opening(
        run=given.run,
        parts={part: path for part in one.parts if (path := getattr(given, part))},
        options={option.key: getattr(given, option.key) for option in one.options},
        device=given.device,
    )


def _output_folder(given: argparse.Namespace) -> Path:
    """Return where results go; tried at once, as a search may take minutes before it writes."""
    folder: Path = given.output or Path("generated") / given.command
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise SettingsError(f"cannot write a folder {folder}: {there} is in the way or read-only")
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; ends the process with 2 for what the user must solve."""
    given = parser().parse_args(arguments)
    command, offering = commands()[given.command]
    import torch

    with explained_ends("generate", stopped="stopped"):
        folder = _output_folder(given)
        one = chosen_family(given, offering)
        try:
            require_content(given, one)
            painter = one.open(opening(given, one))
            command.work(Job(given, painter, folder, one.abilities))
        except torch.OutOfMemoryError as error:
            raise SettingsError(
                f"no GPU memory left ({str(error).splitlines()[0]}): give --device cpu, or a "
                "smaller --number"
            ) from None


if __name__ == "__main__":
    main()
