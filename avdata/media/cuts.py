"""One window while it is being filled, and what it holds when it is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from avdata.config import TrimSettings
from avdata.errors import ClipError, Reason
from avdata.steps.windows import Window, frame_times_s

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from avdata.media.mp4 import Mp4Writer
    from avdata.media.pictures import Picture


@dataclass(frozen=True, slots=True)
class Cut:
    """What one window holds."""

    samples: NDArray[np.int16]  # mono; empty when the source has no sound
    frames: tuple[tuple[float, bytes], ...]  # presentation time after the window's start, JPEG
    width_px: int
    height_px: int
    video: bytes | None = None  # mp4


@dataclass(frozen=True, slots=True)
class VideoClock:
    """Converts between a source's time and the ticks of its video stream."""

    time_base: Fraction
    origin_s: Fraction

    def tick(self, time_s: Fraction) -> int:
        """Return the last tick not after `time_s`."""
        return math.floor((time_s + self.origin_s) / self.time_base)

    def duration(self, seconds: float) -> int:
        """Return how many ticks `seconds` are, rounded."""
        return round(seconds / self.time_base)

    def time_s(self, tick: int) -> Fraction:
        return tick * self.time_base - self.origin_s


Encode = Callable[["VideoFrame"], tuple[bytes, tuple[int, int]]]
"""A picture's JPEG and its width and height in pixels."""


class OpenCut:
    """A window that collects its sound and its frames, and judges whether it is whole."""

    def __init__(
        self,
        window: Window,
        settings: TrimSettings,
        clock: VideoClock | None,
        has_sound: bool,
        writer: Mp4Writer | None,
    ) -> None:
        self.window = window
        self.start_s = Fraction(window.start_ms, 1000)
        self.end_s = Fraction(window.end_ms, 1000)
        self.first_sample = round(self.start_s * settings.sample_rate_hz)
        self.n_samples = window.n_samples(settings.sample_rate_hz) if has_sound else 0
        self.asked_ticks: list[int] = []
        if clock is not None:
            times_s = frame_times_s(window, settings)
            self.asked_ticks = [clock.tick(self.start_s + t) for t in times_s]
        self._settings = settings
        self._clock = clock
        self._writer = writer
        self._samples: NDArray[np.int16] | None = None
        self._heard = 0  # samples that the source really has
        self._frames: list[tuple[float, bytes]] = []
        self._size_px = (0, 0)
        self._answered = 0  # of asked_ticks, with a picture or in vain
        self._damaged = False
        self._damage = "a picture is damaged"
        self._shown_until_s = Fraction(-1)

    def hear(self, position: int, samples: NDArray[np.int16]) -> None:
        """Take what falls into the window of a block that begins at `position`."""
        begin = max(position, self.first_sample)
        end = min(position + samples.size, self.first_sample + self.n_samples)
        if begin >= end:
            return
        if self._samples is None:
            self._samples = np.zeros(self.n_samples, np.int16)
        block = samples[begin - position : end - position]
        self._samples[begin - self.first_sample : end - self.first_sample] = block
        self._heard += block.size

    def show(self, picture: Picture, tolerance_ticks: int, encode: Encode) -> None:
        """Answer with the picture what was asked for while it is on screen.

        What was asked for before the source's first picture gets that one, if it is near.
        """
        assert self._clock is not None
        while not self.all_seen and self.asked_ticks[self._answered] < picture.until_tick:
            tick = self.asked_ticks[self._answered]
            self._answered += 1
            if picture.frame is None:
                self._damaged = True
            elif tick >= picture.tick - tolerance_ticks:
                try:
                    data, self._size_px = encode(picture.frame)
                except ClipError as error:
                    self._damaged, self._damage = True, error.detail
                    continue
                t_s = self._clock.time_s(picture.tick) - self.start_s
                self._frames.append((round(float(t_s), 6), data))
        if self._writer is not None:
            self._shown_until_s = self._clock.time_s(picture.until_tick)
            if self._shown_until_s > self.start_s and self._clock.time_s(picture.tick) < self.end_s:
                self._damaged |= picture.frame is None
                if picture.frame is not None:
                    try:
                        self._writer.add(picture.frame, picture.tick)
                    except ClipError as error:
                        self._damaged, self._damage = True, error.detail

    @property
    def all_seen(self) -> bool:
        """Whether every frame asked for was answered, with a picture or in vain."""
        return self._answered == len(self.asked_ticks)

    @property
    def needs_pictures(self) -> bool:
        """Whether any later picture can matter."""
        open_mp4 = self._writer is not None and self._shown_until_s < self.end_s
        return self._clock is not None and (not self.all_seen or open_mp4)

    def needs_sound(self, heard_until: int) -> bool:
        """Whether sound after sample `heard_until` of the source can matter."""
        return heard_until < self.first_sample + self.n_samples

    def result(self, trouble: str) -> Cut | ClipError:
        """Return what the window holds, or why it is not whole.

        `trouble` tells what was found damaged in the source, if anything: then the damage is the
        reason, otherwise the source simply has less than the window.
        """
        settings = self._settings
        missing_s = (self.n_samples - self._heard) / settings.sample_rate_hz
        missing_frames = len(self.asked_ticks) - len(self._frames)
        lacks = []
        if self.n_samples and (missing_s > settings.short_tolerance_s or not self._heard):
            lacks.append(f"{missing_s:.3f} s of sound are missing")
        if missing_frames:
            lacks.append(f"{missing_frames} of {len(self.asked_ticks)} frames are missing")
        nothing = (self.n_samples and not self._heard) or (self.asked_ticks and not self._frames)
        keep = settings.short_clips == "keep" and not (nothing or trouble)
        if self._damaged or (lacks and not keep):
            reason = Reason.CORRUPT if self._damaged or trouble else Reason.TOO_SHORT
            detail = "; ".join(filter(None, [*lacks, trouble])) or self._damage
            self.close()
            return ClipError(reason, detail)
        samples = np.zeros(self.n_samples, np.int16) if self._samples is None else self._samples
        frames = tuple(self._frames)
        self._samples, self._frames = None, []  # the caller has them now
        video = None
        if self._writer is not None:
            video = self._writer.finish(samples, settings.sample_rate_hz)
        return Cut(samples, frames, *self._size_px, video)

    def close(self) -> None:
        """Let go of what is unfinished."""
        if self._writer is not None:
            self._writer.abort()
