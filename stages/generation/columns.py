"""What stands in the columns of a sheet: noises of one sound, or contents that it restyles.

    columns.of(sound, "rain")  # one picture for each column

A painter that restyles draws no noise: its columns are the pictures it is given, each looked at
once, however many rows there are. One that moves pictures starts every row from the same ones,
given or drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask, Hears, Moves, Restyles
from stages.generation.sheets import Images, SheetRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

START = "start"
"""The key of the noise from which pictures are drawn that a sound then moves."""


class Columns(Protocol):
    """A painter, and in what its pictures of one sound differ."""

    @property
    def painter(self) -> Hears: ...

    @property
    def headings(self) -> Sequence[str]:
        """What to write over each column, if they have names."""
        ...

    def of(self, sound: Sound, key: str) -> Images:
        """Return pictures [H, W, 3] of a sound, one for each column; key: of the noise, if any."""
        ...

    def given(self) -> list[SheetRow]:
        """Return what was there before any sound, as the first row of a sheet, if anything."""
        ...


@dataclass(frozen=True, slots=True)
class Noises:
    """n pictures of a sound that differ by their noise alone."""

    painter: Hears
    n: int
    seed: int
    headings: Sequence[str] = ()

    def of(self, sound: Sound, key: str) -> NDArray[np.uint8]:
        """Return pictures [n, R, R, 3]."""
        asks = [Ask(key=key, number=i, sound=sound) for i in range(self.n)]
        return self.painter.paint(asks, self.seed)

    def given(self) -> list[SheetRow]:
        """Return nothing: there was noise."""
        return []


@dataclass(frozen=True)
class Contents:
    """Pictures that a sound restyles."""

    painter: Restyles
    pictures: Sequence[Picture]
    _content: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        sized = [self.painter.sized(picture.image)[None] for picture in self.pictures]
        self._content.extend(self.painter.content(image) for image in sized)

    @property
    def headings(self) -> Sequence[str]:
        return [picture.name for picture in self.pictures]

    def of(self, sound: Sound, key: str) -> list[NDArray[np.uint8]]:
        """Return a picture [h, w, 3] for each content."""
        style = self.painter.style([sound])
        return [self.painter.restyled(content, style)[0] for content in self._content]

    def given(self) -> list[SheetRow]:
        """Return the contents as they were given."""
        images = [self.painter.sized(picture.image) for picture in self.pictures]
        return [
            SheetRow(
                title="Content",
                note="as given",
                images=images,
                headings=self.headings,
                facts={"contents": list(self.headings)},
            )
        ]


@dataclass(frozen=True, slots=True)
class Starts:
    """Pictures that a sound moves: those that are given, or else n of noise, the same ones always.

    They come out as the painter sees them, found again among its own.
    """

    painter: Moves
    pictures: Sequence[Picture]
    n: int
    seed: int

    @property
    def headings(self) -> Sequence[str]:
        return [picture.name for picture in self.pictures]

    def of(self, sound: Sound, key: str) -> NDArray[np.uint8]:
        """Return pictures [n, R, R, 3]; key has no part in it."""
        return self.painter.paint(self.asks(sound=sound), self.seed)

    def given(self) -> list[SheetRow]:
        """Return the pictures as they are before any sound."""
        title, note = ("Source", "found again") if self.pictures else ("Source", "of noise")
        return [
            SheetRow(
                title=title,
                note=note,
                images=self.painter.before(self.asks(), self.seed),
                headings=self.headings,
                facts={"contents": list(self.headings)},
            )
        ]

    def asks(self, sound: Sound | None = None, text: str | None = None) -> list[Ask]:
        """Return an ask for each column."""
        pictures: Sequence[Picture | None] = self.pictures or [None] * self.n
        return [
            Ask(key=START, number=number, picture=picture, sound=sound, text=text)
            for number, picture in enumerate(pictures)
        ]
