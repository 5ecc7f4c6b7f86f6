"""What is compared: a system makes one picture, or picks one, for each row that is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from avdata.errors import SettingsError, nearest
from avdata.store import sha256_file
from avdata.strict import digest
from stages.families import families
from stages.generation.inputs import PICTURE_SUFFIXES
from stages.pairs.samples import Samples, frames_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stages.evaluation.studio import Studio
    from stages.family import Family
    from stages.pairs.clips import Clips

OF_PICTURES = ("recall", "frechet", "inception")
"""Figures of any set of pictures that stand beside the real frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One row of the table.

    samples: its pictures in the order of the test clips; number: other ones as good, where it
    `varies`: of another noise. figures: which apply, by their names in `evaluation/figures.py` or
    the family's own. hears: whether it rests on the sounds' features. contents: of each row the
    clip whose frame it starts from, where it restyles pictures (`evaluation/contents.py` chooses
    them). starts: the pictures themselves that it started from, where they are no frames of clips,
    but made as its own are. at_gain: its pictures where all sounds are so many times as loud.
    by_default: whether it is scored where no systems are named.
    """

    name: str
    title: str
    samples: Callable[[Studio, int], Samples]
    figures: tuple[str, ...] = OF_PICTURES
    varies: bool = False
    hears: bool = False
    contents: Callable[[Studio], Clips] | None = None
    starts: Callable[[Studio], Samples] | None = None
    at_gain: Callable[[Studio, float], Samples] | None = None
    by_default: bool = True


def real(studio: Studio, number: int) -> Samples:
    """Return the test clips' own frames; number: the frames of so many clips on, in their class."""
    frames = frames_of(studio.test)
    if not number:
        return frames
    kinds: dict[str, list[int]] = {}
    places = []  # of each clip among those of its class
    for row, name in enumerate(studio.classes):
        kind = kinds.setdefault(name, [])
        places.append(len(kind))
        kind.append(row)
    own = (kinds[name] for name in studio.classes)
    moved = zip(own, places, strict=True)
    return frames.chosen([kind[(place + number) % len(kind)] for kind, place in moved])


REAL = System(
    name="upper_bound",
    title="Upper bound (real frames)",
    samples=real,
    # Not FID: it is the reference itself. The last two stand where other systems have them.
    figures=("recall", "inception", "diversity", "correspondence", "clip_text"),
    varies=True,
)


def find_systems(
    names: Sequence[str], folders: Mapping[str, str], trained: Sequence[Family]
) -> dict[System, Family | None]:
    """Return the systems of these names, each with its family; None: it has none.

    folders: systems that are folders of pictures, by name; they come last. Without names: all of
    the `trained` families and the real frames. Raises SettingsError for an unknown name.
    """
    known: dict[str, tuple[System, Family | None]] = {REAL.name: (REAL, None)}
    for family in families():
        known |= {system.name: (system, family) for system in family.systems}
    if not names:
        offered = (system for family in trained for system in family.systems)
        names = [*(system.name for system in offered if system.by_default), REAL.name]
    for name in names:
        if name not in known:
            raise SettingsError(f"no system is called {name!r}; {nearest(name, known)}")
    if taken := sorted(set(folders) & set(known)):
        raise SettingsError(f"folders: {', '.join(taken)} is a system already; give another name")
    given = {folder_system(name, Path(path)): None for name, path in folders.items()}
    return {known[name][0]: known[name][1] for name in names} | given


def folder_system(name: str, folder: Path) -> System:
    """Return somebody else's pictures as a system: files in `folder`, named KEY.png or the like."""
    return System(
        name=name,
        title=f"{name} ({folder.name})",
        samples=lambda studio, _: pictures_in(folder, studio.test.keys),
    )


def pictures_in(folder: Path, keys: Sequence[str]) -> Samples:
    """Return the pictures of these clips; raises SettingsError for a folder that lacks some."""
    if not folder.is_dir():
        raise SettingsError(f"folders: there is no folder {folder}")
    there = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in PICTURE_SUFFIXES}
    if missing := [key for key in keys if key not in there]:
        raise SettingsError(
            f"{folder} lacks pictures of {len(missing)} of {len(keys)} clips that are scored, "
            f"{missing[0]} first; they are named KEY.png, KEY.jpg or the like"
        )
    paths = [there[key] for key in keys]

    def read(rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        return [_opened(paths[row]) for row in rows]

    identity = {"folder": digest([sha256_file(path) for path in paths])}
    return Samples("pictures", identity, len(paths), read)


def _opened(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise SettingsError(f"folders: {path} is no picture that can be read: {error}") from None
