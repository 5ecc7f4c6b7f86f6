"""A video restyled picture by picture by a sound, its own or another, at one volume or several.

The sound is normalised once over its whole length, then amplified, so that what is quiet in a film
stays quieter than what is loud. Around each moment t_k = k · HOP_S the painter hears a window of
its own length, which stays inside the sound; its style s_k is smoothed over time,

    s(t) = Σ_k w_k s_k / Σ_k w_k,   w_k = exp(−(t − t_k)² / 2σ²)

so that it does not jump where something loud enters the window. σ → 0 is the nearest moment,
σ = ∞ one style for the whole film.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from avdata import audio
from avdata.audio.spectrograms import fit_samples
from avdata.errors import ClipError
from avdata.frames import of_one_size
from avdata.media.films import FilmPicture, FilmWriter, pictures_of, sound_of
from stages.generation.inputs import InputError, Sound
from stages.generation.painter import Restyles
from stages.generation.sounds import amplitude
from stages.metrics.flicker import Flicker

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from avdata.audio.spec import AudioSpec

T = TypeVar("T")
HOP_S = 0.2  # between the moments at which a sound is heard
HEARD_AT_ONCE, DRAWN_AT_ONCE = 32, 8


@dataclass(frozen=True, slots=True)
class Track:
    """A whole sound at a front-end's rate, normalised as the front-end says, once.

    samples: float32 [n], n at least what the front-end hears; shorter sound is filled up.
    """

    name: str
    samples: NDArray[np.float32]
    spec: AudioSpec

    @classmethod
    def read(cls, path: Path, spec: AudioSpec) -> Track:
        """Return the sound of a file; raises InputError for one that has none."""
        try:
            samples = audio.to_float(sound_of(path, spec.sample_rate_hz))
        except ClipError as error:
            raise InputError(
                f"{path}: no usable sound ({error.reason}): {error.detail}; give --by"
            ) from None
        long = replace(spec, n_samples=max(len(samples), spec.n_samples))
        return cls(path.stem, fit_samples(samples, long), spec)

    def window(self, time_s: float) -> NDArray[np.float32]:
        """Return what is heard around a moment, [n_samples]; at the ends it stays inside."""
        n = self.spec.n_samples
        first = round(time_s * self.spec.sample_rate_hz) - n // 2
        first = max(0, min(first, len(self.samples) - n))
        return self.samples[first : first + n]


@dataclass(frozen=True, slots=True)
class Styles:
    """What a painter hears in the course of a sound: styles [K, D] at times_s [K]."""

    times_s: Tensor
    values: Tensor
    smooth_s: float

    @classmethod
    def of(
        cls, painter: Restyles, track: Track, length_s: float, gain_db: float, smooth_s: float
    ) -> Styles:
        """Return the styles over so many seconds of a track at a gain."""
        times_s = [k * HOP_S for k in range(math.floor(length_s / HOP_S) + 1)]
        gain, rate_hz = np.float32(amplitude(gain_db)), track.spec.sample_rate_hz
        parts = []
        for some in _batches(times_s, HEARD_AT_ONCE):
            waves = (gain * track.window(time_s) for time_s in some)
            sounds = [Sound(track.name, wave, rate_hz, fitted=True) for wave in waves]
            parts.append(painter.style(sounds))
        values = torch.cat(parts)
        times = torch.tensor(times_s, dtype=torch.float64)
        return cls(times, values, smooth_s)

    def at(self, moments_s: Sequence[float]) -> Tensor:
        """Return s(t) [B, D] at moments [B]."""
        away_s = torch.tensor(moments_s, dtype=torch.float64)[:, None] - self.times_s
        if self.smooth_s == 0:
            return self.values[away_s.abs().argmin(dim=1).to(self.values.device)]
        exponent = -(away_s / self.smooth_s).square() / 2
        weights = exponent.softmax(dim=1).to(self.values)  # [B, K]
        return weights @ self.values

    def step(self) -> float:
        """Return the mean ‖s(t + HOP_S) − s(t)‖ over the mean ‖s(t)‖: how much the style jumps."""
        course = self.at(self.times_s.tolist())
        if len(course) < 2:
            return 0.0
        length = course.norm(dim=1).mean()
        return float(course.diff(dim=0).norm(dim=1).mean() / length) if length > 0 else 0.0


@dataclass(slots=True)
class Restyled:
    """A film at one volume: its mp4 without sound, how steady it is, some of its pictures."""

    gain_db: float
    style_step: float
    steadiness: Flicker = field(default_factory=Flicker)
    strip: list[NDArray[np.uint8]] = field(default_factory=list)
    mp4: bytes = b""

    def facts(self) -> dict[str, Any]:
        """Return plain values for result.json."""
        measured = self.steadiness.to_json()
        return {"gain_db": self.gain_db, "style_step": self.style_step, **measured}


@dataclass(slots=True)
class Film:
    """Films of all volumes, and the same moments before they were restyled."""

    restyled: list[Restyled]
    strip: list[NDArray[np.uint8]] = field(default_factory=list)
    strip_times_s: list[float] = field(default_factory=list)
    pictures: int = 0
    last_s: float = 0.0  # when the last picture begins


def restyle_film(
    painter: Restyles,
    path: Path,
    track: Track,
    *,
    gains_db: Sequence[float],
    length_s: float,
    smooth_s: float,
    strip: int = 6,
) -> Film:
    """Return a video of `length_s` restyled by a track at each gain; contents are seen once.

    strip: how many pictures, evenly over its time, are kept. Raises InputError for a file that
    shows nothing or cannot be decoded.
    """
    styles = [Styles.of(painter, track, length_s, gain_db, smooth_s) for gain_db in gains_db]
    film = Film([Restyled(gain, own.step()) for gain, own in zip(gains_db, styles, strict=True)])
    kept_s = [k * length_s / strip for k in range(strip)]
    with TemporaryDirectory(prefix="avdata-") as scratch, ExitStack() as stack:
        writers = [FilmWriter(Path(scratch)) for _ in gains_db]
        for writer in writers:
            stack.callback(writer.abort)
        for some in _batches(_pictures(path), DRAWN_AT_ONCE):
            sized = [painter.sized(picture.image) for picture in some]
            images = np.stack(of_one_size([*film.strip[:1], *sized])[-len(sized) :])
            moments_s = [float(picture.time_s) for picture in some]
            content = painter.content(images)
            drawn = [painter.restyled(content, own.at(moments_s)) for own in styles]
            for n, picture in enumerate(some):
                at = len(film.strip)
                keeps = at == 0 or (at < strip and moments_s[n] >= kept_s[at])
                if keeps:
                    film.strip.append(images[n])
                    film.strip_times_s.append(moments_s[n])
                for own, writer, outs in zip(film.restyled, writers, drawn, strict=True):
                    writer.add(outs[n], picture.time_s)
                    own.steadiness.add(images[n], outs[n])
                    if keeps:
                        own.strip.append(outs[n])
            film.pictures += len(some)
            film.last_s = moments_s[-1]
        for own, writer in zip(film.restyled, writers, strict=True):
            own.mp4 = writer.finish()
    return film


def _pictures(path: Path) -> Iterator[FilmPicture]:
    """Give the pictures of a video; raises InputError for a file that cannot be decoded."""
    try:
        with pictures_of(path) as pictures:
            yield from pictures
    except ClipError as error:
        raise InputError(f"{path}: no usable video ({error.reason}): {error.detail}") from None


def _batches(things: Iterable[T], n: int) -> Iterator[list[T]]:
    rest = iter(things)
    while some := list(islice(rest, n)):
        yield some
