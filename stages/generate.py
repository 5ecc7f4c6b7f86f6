"""Pictures from sounds: python -m stages.generate COMMAND ... --run runs/demo

    sound a.wav b.mp4      pictures of each sound        sweep a.wav      at several volumes
    image a.jpg            pictures like this one        interpolate A B  from one to another
    mix a.wav b.wav        pictures of both together     gradcam a.wav    what it listens to
    invert a.jpg           a picture found again         edit a.jpg       moved along two sounds

Writes images/, sheet.png, film.gif where there are steps, and result.json; docs/generate.md.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avdata.errors import AvdataError, SettingsError

if TYPE_CHECKING:
    from stages.generation.inputs import Picture, Sound
    from stages.generation.sheets import Row
    from stages.sound2scene.scene import Sound2Scene

FALLBACK_HEARS = (16_000, 10.0)  # rate and length to read sounds at, to then say what is missing


@dataclass(frozen=True, slots=True)
class Job:
    """The model and the options that all commands share."""

    given: argparse.Namespace
    model: Sound2Scene
    folder: Path  # for results

    def sounds(self, names: Sequence[str]) -> list[Sound]:
        from stages.generation.inputs import read_sound

        given = self.given
        return [read_sound(name, *self.model.hears, given.run, given.start_s) for name in names]

    def pictures(self, names: Sequence[str]) -> list[Picture]:
        from stages.generation.inputs import read_picture

        return [read_picture(name, self.given.run) for name in names]

    def write(self, title: str, rows: Sequence[Row], steps: Sequence[Row] = ()) -> None:
        from stages.generation.results import SHEET_NAME, write_results

        given = self.given
        options = {name: value for name, value in vars(given).items() if name != "output"}
        facts = {
            "command": given.command,
            "seed": given.seed,
            "options": options,
            "models": self.model.sources,
        }
        write_results(self.folder, title, rows, facts, steps=steps)
        count = sum(len(row.images) for row in rows)
        print(f"{count} pictures; look at {self.folder / SHEET_NAME}")


def sound(job: Job) -> None:
    """Pictures of each sound."""
    from stages.sound2scene.rows import sound_rows

    given = job.given
    rows = sound_rows(job.model, job.sounds(given.sounds), given.number, given.seed)
    job.write("Pictures of sounds", rows)


def image(job: Job) -> None:
    """Pictures in the manner of each picture, without any sound (IC-GAN)."""
    from stages.sound2scene.rows import image_rows

    given = job.given
    rows = image_rows(job.model, job.pictures(given.images), given.number, given.seed)
    job.write("Pictures like pictures", rows)


def mix(job: Job) -> None:
    """Pictures of several sounds heard together, each at a gain of its own."""
    from stages.sound2scene.rows import mix_rows

    given = job.given
    gains_db = given.gain_db or [0.0] * len(given.sounds)
    if len(gains_db) != len(given.sounds):
        raise SettingsError(f"{len(given.sounds)} sounds, but --gain-db was given {len(gains_db)}×")
    rows = mix_rows(job.model, job.sounds(given.sounds), gains_db, given.number, given.seed)
    job.write("Sounds heard together", rows)


def sweep(job: Job) -> None:
    """Pictures of one sound at several volumes, the noise held fixed."""
    from stages.sound2scene.rows import sweep_rows

    given = job.given
    (one,) = job.sounds([given.sound])
    rows = sweep_rows(job.model, one, given.gains_db, given.number, given.seed)
    job.write(f"{one.name}, softer and louder", rows, steps=rows)


def interpolate(job: Job) -> None:
    """Pictures between two features, of sounds or pictures, the noise held fixed."""
    from stages.generation.inputs import read_input
    from stages.sound2scene.rows import interpolation_rows

    given, model = job.given, job.model
    hears = FALLBACK_HEARS if model.frontend is None else model.hears
    first, second = (
        read_input(name, *hears, given.run, given.start_s) for name in (given.first, given.second)
    )
    shares = [n / (given.rows - 1) for n in range(given.rows)]
    rows = interpolation_rows(model, (first, second), shares, given.way, given.number, given.seed)
    job.write(f"From {first.name} to {second.name}", rows, steps=rows)


def invert(job: Job) -> None:
    """Find the noise and the feature from which the generator makes a picture."""
    from stages.sound2scene.rows import inversion_row

    (picture,) = job.pictures([job.given.image])
    row, _ = inversion_row(job.model, picture, job.given.seed, **_search(job.given))
    job.write("A picture found again", [row])


def edit(job: Job) -> None:
    """Find a picture again, and move it along the difference of two sounds."""
    from stages.generation.sheets import unrolled
    from stages.sound2scene.rows import edit_rows

    given = job.given
    (picture,) = job.pictures([given.image])
    source, target = job.sounds([given.source, given.target])
    rows = edit_rows(
        job.model,
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


def gradcam(job: Job) -> None:
    """What in the spectrogram speaks for a feature (Grad-CAM)."""
    from stages.sound2scene.rows import gradcam_rows

    given = job.given
    toward = given.toward
    if toward not in ("made", "own"):
        (toward,) = job.pictures([toward])
    rows = gradcam_rows(job.model, job.sounds(given.sounds), toward, given.number, given.seed)
    job.write("What it listens to", rows)


def _search(given: argparse.Namespace) -> dict[str, float]:
    return {"steps": given.steps, "candidates": given.candidates, "lr": given.lr}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    several, one = "media files, or keys of clips of the run", "a media file, or a clip's key"
    picture = "a still image, KEY (a clip's best frame) or KEY:FRAME"
    search = argparse.ArgumentParser(add_help=False)
    search.add_argument("image", help=picture)
    search.add_argument("--steps", type=_positive, default=500, help="of the search (500)")
    search.add_argument("--candidates", type=_positive, default=32, help="starts it draws (32)")
    search.add_argument(
        "--lr", type=_within(1e-6, 10), default=0.05, help="its learning rate (0.05)"
    )
    common = _common()

    top = argparse.ArgumentParser(
        prog="python -m stages.generate", description="Pictures from sounds."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {
        work.__name__: commands.add_parser(
            work.__name__,
            help=work.__doc__,
            description=work.__doc__,
            parents=[common, search] if work in (invert, edit) else [common],
        )
        for work in COMMANDS.values()
    }
    for name in ("sound", "mix", "gradcam"):
        parsers[name].add_argument("sounds", nargs="+", help=several)
    parsers["image"].add_argument("images", nargs="+", help=picture)
    parsers["mix"].add_argument(
        "--gain-db",
        type=_within(-math.inf, 200),
        action="append",
        help="gain of each sound, in their order (0)",
    )
    parsers["sweep"].add_argument("sound", help=one)
    parsers["sweep"].add_argument(
        "--gains-db",
        type=_within(-math.inf, 200),
        nargs="+",
        default=[-40, -30, -20, -10, 0, 10, 20],
        metavar="G",
    )
    for end in ("first", "second"):
        parsers["interpolate"].add_argument(end, help=f"{one}; or a still image, or image:KEY")
    parsers["interpolate"].add_argument("--rows", type=_rows, default=7, help="steps (7)")
    parsers["interpolate"].add_argument(
        "--way", choices=("lerp", "slerp"), default="lerp", help="mean of features, equal angles"
    )
    parsers["edit"].add_argument("--from", dest="source", required=True, metavar="SOUND")
    parsers["edit"].add_argument("--to", dest="target", required=True, metavar="SOUND")
    parsers["edit"].add_argument(
        "--from-gain-db", type=_within(-math.inf, 200), default=0.0, metavar="G"
    )
    parsers["edit"].add_argument(
        "--to-gain-db", type=_within(-math.inf, 200), default=0.0, metavar="G"
    )
    parsers["edit"].add_argument(
        "--strengths", type=_within(-100, 100), nargs="+", default=[0, 0.5, 1, 1.5, 2], metavar="A"
    )
    parsers["gradcam"].add_argument(
        "--toward", default="own", help="own: its feature; made: its pictures; or an image (own)"
    )
    return top


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--run", help="output folder of a pipeline: its trainings, its clips")
    common.add_argument("--generator", help="a generator in the place of the run's")
    common.add_argument("--audio-encoder", help="an audio encoder in its place")
    common.add_argument("--image-encoder", help="an image encoder in its place")
    common.add_argument(
        "--view-px", type=_positive, help="squash pictures to this side for the image encoder"
    )
    common.add_argument(
        "--input-px", type=_positive, help="with --view-px: the side it then sees; default the same"
    )
    common.add_argument("-o", "--output", type=Path, help="folder (generated/COMMAND)")
    common.add_argument("-n", "--number", type=_positive, default=4, help="pictures of each (4)")
    common.add_argument("--seed", type=int, default=0, help="of all noise (0)")
    common.add_argument(
        "--start-s", type=_within(0, 1e6), default=0.0, help="where sounds begin (0)"
    )
    common.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return common


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value


def _within(low: float, high: float) -> Callable[[str], float]:
    """Return what reads a number from low to high; NaN is none."""

    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}, got {text}")
        return value

    return number


def _rows(text: str) -> int:
    if _positive(text) < 2:
        raise argparse.ArgumentTypeError("both ends make two rows; give 2 or more")
    return int(text)


COMMANDS = {
    work.__name__: work for work in (sound, image, mix, sweep, interpolate, invert, edit, gradcam)
}


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
    import torch

    try:
        folder = _output_folder(given)
        from stages.sound2scene.load import load_model
        from stages.sound2scene.scene import Sight

        sight = Sight(view_px=given.view_px, input_px=given.input_px) if given.view_px else None
        model = load_model(
            given.run,
            generator=given.generator,
            audio_encoder=given.audio_encoder,
            image_encoder=given.image_encoder,
            sight=sight,
            device=given.device,
        )
        COMMANDS[given.command](Job(given, model, folder))
    except AvdataError as error:
        _end(str(error), 2)
    except torch.OutOfMemoryError as error:
        advice = "give --device cpu, or a smaller --number"
        _end(f"no GPU memory left ({str(error).splitlines()[0]}): {advice}", 2)
    except KeyboardInterrupt:
        _end("stopped", 130)


def _end(message: str, code: int) -> None:
    print(f"generate: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
