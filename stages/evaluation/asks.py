"""What systems are asked to paint, row by row: a clip, a picture to start from, a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from avdata.strict import digest
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask
from stages.generation.sounds import together
from stages.pairs.clips import Clips
from stages.pairs.samples import Samples, frames_of, sounds_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from avdata.audio.spec import AudioSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """Rows of (clip, content picture, text), read when they are painted.

    clips: they key the noise, and give the sound where `hears`, the front-end, is given. contents,
    styles: of each row the clip whose best frame is handed over, as the picture and as the one
    whose style it takes; None: no picture. texts: of each row. gain: factor of the sounds once they
    are fitted to the front-end; None: they are handed over as they were recorded. ValueError unless
    all have the same number of rows.
    """

    clips: Clips
    hears: AudioSpec | None = None
    contents: Clips | None = None
    texts: Sequence[str] | None = None
    styles: Clips | None = None
    gain: float | None = None

    def __post_init__(self) -> None:
        given = (self.clips, self.contents, self.texts, self.styles)
        if len(lengths := {len(own) for own in given if own is not None}) > 1:
            raise ValueError(
                f"clips, contents, texts and styles differ in their numbers: {lengths}"
            )

    def __len__(self) -> int:
        return len(self.clips)

    def identity(self) -> dict[str, Any]:
        """Return plain values that tell what is asked, without reading it."""
        sounds, frames = self._sounds(), _frames(self.contents)
        styles = _frames(self.styles)
        return {
            "keys": digest(self.clips.keys),
            "sounds": None if sounds is None else dict(sounds.identity),
            "contents": None if frames is None else dict(frames.identity),
            "texts": None if self.texts is None else digest(list(self.texts)),
            **({} if styles is None else {"styles": dict(styles.identity)}),
            **({} if self.gain is None else {"gain": self.gain}),
        }

    def read(self, rows: Sequence[int], number: int = 0) -> list[Ask]:
        """Return some rows as asks for the picture of this number."""
        sounds, frames, styles = self._sounds(), _frames(self.contents), _frames(self.styles)
        heard = [None] * len(rows) if sounds is None else sounds.read(rows)
        shown = [None] * len(rows) if frames is None else frames.read(rows)
        models = [None] * len(rows) if styles is None else styles.read(rows)
        return [
            Ask(
                key=self.clips.keys[row],
                number=number,
                sound=None if samples is None else self._sound(row, samples),
                picture=None if image is None else Picture(self.clips.keys[row], image),
                text=None if self.texts is None else self.texts[row],
                style=None if model is None else Picture(self.clips.keys[row], model),
            )
            for row, samples, image, model in zip(rows, heard, shown, models, strict=True)
        ]

    def _sound(self, row: int, samples: NDArray[np.float32]) -> Sound:
        sound = Sound(self.clips.keys[row], samples, self.clips.sample_rate_hz)
        if self.gain is None or self.hears is None:
            return sound
        return together([sound], [self.gain], self.hears)

    def _sounds(self) -> Samples | None:
        return None if self.hears is None else sounds_of(self.clips, self.hears.sample_rate_hz)


def _frames(clips: Clips | None) -> Samples | None:
    return None if clips is None else frames_of(clips)
