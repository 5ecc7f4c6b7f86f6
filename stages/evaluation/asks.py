"""What systems are asked to paint, row by row: a clip, a picture to start from, a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from avdata.strict import digest
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask
from stages.pairs.clips import Clips
from stages.pairs.samples import Samples, frames_of, sounds_of

if TYPE_CHECKING:
    from avdata.audio.spec import AudioSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """Rows of (clip, content picture, text), read when they are painted.

    clips: they key the noise, and give the sound where `hears`, the front-end, is given. contents:
    of each row the clip whose best frame is handed over; None: no picture. texts: of each row.
    Raises ValueError unless all have the same number of rows.
    """

    clips: Clips
    hears: AudioSpec | None = None
    contents: Clips | None = None
    texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        lengths = {len(own) for own in (self.clips, self.contents, self.texts) if own is not None}
        if len(lengths) > 1:
            raise ValueError(f"clips, contents and texts differ in their numbers: {lengths}")

    def __len__(self) -> int:
        return len(self.clips)

    def identity(self) -> dict[str, Any]:
        """Return plain values that tell what is asked, without reading it."""
        sounds, frames = self._sounds(), self._frames()
        return {
            "keys": digest(self.clips.keys),
            "sounds": None if sounds is None else dict(sounds.identity),
            "contents": None if frames is None else dict(frames.identity),
            "texts": None if self.texts is None else digest(list(self.texts)),
        }

    def read(self, rows: Sequence[int], number: int = 0) -> list[Ask]:
        """Return some rows as asks for the picture of this number."""
        sounds, frames = self._sounds(), self._frames()
        heard = [None] * len(rows) if sounds is None else sounds.read(rows)
        shown = [None] * len(rows) if frames is None else frames.read(rows)
        return [
            Ask(
                key=self.clips.keys[row],
                number=number,
                sound=None
                if samples is None
                else Sound(self.clips.keys[row], samples, self.clips.sample_rate_hz),
                picture=None if image is None else Picture(self.clips.keys[row], image),
                text=None if self.texts is None else self.texts[row],
            )
            for row, samples, image in zip(rows, heard, shown, strict=True)
        ]

    def _sounds(self) -> Samples | None:
        return None if self.hears is None else sounds_of(self.clips, self.hears.sample_rate_hz)

    def _frames(self) -> Samples | None:
        return None if self.contents is None else frames_of(self.contents)
