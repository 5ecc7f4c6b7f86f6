"""Commands of `stages.generate` that move codes: by texts, by both, watched; and find codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from avdata.errors import SettingsError
from stages.generation.commands import (
    CONTENT,
    ONE,
    PICTURE,
    ROWS,
    Command,
    Job,
    Option,
    two_or_more,
    within,
)

if TYPE_CHECKING:
    from stages.generation.painter import Ability
    from stages.sound_guided.manipulator import Manipulator

CODES_NAME = "codes.npy"


def text(job: Job) -> None:
    """Pictures moved by each text, from the same starts."""
    from stages.sound_guided.rows import text_rows

    starts = job.starts()
    rows = text_rows(_model(job), starts, job.given.texts)
    job.write("Pictures moved by texts", [*starts.given(), *rows])


def fuse(job: Job) -> None:
    """Pictures from a sound's to a text's, in steps."""
    from stages.sound_guided.rows import fused_rows

    given, starts = job.given, job.starts()
    (sound,) = job.sounds([given.sound])
    shares = [n / (given.rows - 1) for n in range(given.rows)]
    rows = fused_rows(_model(job), starts, sound, given.text, shares, given.between)
    title = f"From {sound.name} to “{given.text}”"
    job.write(title, [*starts.given(), *rows], steps=rows)


def stylemix(job: Job) -> None:
    """Pictures whose coarse layers follow a sound and whose fine ones follow a text."""
    from stages.sound_guided.rows import style_mix_rows

    given, starts = job.given, job.starts()
    (sound,) = job.sounds([given.sound])
    rows = style_mix_rows(_model(job), starts, sound, given.text)
    job.write(f"{sound.name} and “{given.text}”, mixed by layers", [*starts.given(), *rows])


def trace(job: Job) -> None:
    """The way from source to result, step by step, as a sheet and as films."""
    from avdata.store import Store
    from stages.sound_guided.films import write_steps
    from stages.sound_guided.rows import traced

    given, starts = job.given, job.starts()
    if given.sound is None and given.text is None:
        raise SettingsError("nothing to follow: give a sound, --text, or both")
    sounds = job.sounds([given.sound]) if given.sound is not None else [None]
    rows, films = traced(_model(job), starts, sounds[0], given.text, given.frames)
    store, names = Store(str(job.folder)), []
    for number, film in enumerate(films):
        names.append(f"way_{number:02d}.mp4")
        with store.writing(names[-1]) as path:
            write_steps(path, film, given.film_s)
    title = f"Toward {' and '.join(_named(sounds[0].name if sounds[0] else None, given.text))}"
    job.write(title, rows, films=names)


def project(job: Job) -> None:
    """Find the codes of pictures, and keep them in codes.npy, for --codes."""
    import numpy as np

    from avdata.store import Store
    from stages.sound_guided.rows import inverted_rows

    rows, codes = inverted_rows(_model(job), job.pictures(job.given.images), job.given.seed)
    with Store(str(job.folder)).writing(CODES_NAME) as path, Path(path).open("wb") as file:
        np.save(file, codes.cpu().numpy())
    job.write("Pictures found again", rows, codes=CODES_NAME)


def _model(job: Job) -> Manipulator:
    return cast("Manipulator", job.painter)


def _named(sound: str | None, text: str | None) -> list[str]:
    quoted = None if text is None else f"“{text}”"
    return [name for name in (sound, quoted) if name is not None]


SOUND = Option(("sound",), {"help": ONE})
TEXT = Option(("text",), {"help": 'a text, such as "heavy rain"'})
NEEDS: frozenset[Ability] = frozenset({"moves", "has_latents"})

COMMANDS = (
    Command(
        work=text,
        needs=NEEDS,
        options=(Option(("texts",), {"nargs": "+", "help": "texts"}), CONTENT),
    ),
    Command(
        work=fuse,
        needs=NEEDS,
        options=(
            SOUND,
            TEXT,
            CONTENT,
            ROWS,
            Option(
                ("--between",),
                {
                    "choices": ("codes", "guidance"),
                    "default": "codes",
                    "help": "what is interpolated: the codes found, or what guides (codes)",
                },
            ),
        ),
    ),
    Command(work=stylemix, needs=NEEDS, options=(SOUND, TEXT, CONTENT)),
    Command(
        work=trace,
        needs=NEEDS,
        options=(
            Option(("sound",), {"nargs": "?", "help": ONE}),
            Option(("--text",), {"help": "a text that guides, beside the sound or alone"}),
            CONTENT,
            Option(("--frames",), {"type": two_or_more, "default": 60, "help": "of a film (60)"}),
            Option(
                ("--film-s",),
                {"type": within(0.1, 600), "default": 4.0, "help": "its length in s (4)"},
            ),
        ),
    ),
    Command(
        work=project,
        needs=NEEDS,
        options=(Option(("images",), {"nargs": "+", "help": PICTURE}),),
    ),
)
