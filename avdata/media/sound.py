"""One audio stream, decoded packet by packet to mono int16 at the pipeline's rate.

Every block knows its place on the source's time line, so gaps and late starts stay where they are:
A/V sync follows the timestamps, not the count of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

from avdata.media.strange import STRANGE, decode_sound

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from numpy.typing import NDArray

MAX_DRIFT_S = 0.01  # Matroska rounds timestamps to 1 ms; more than 10 ms off is a real gap
RATES_HZ = (1000, 1_000_000)  # a damaged header can claim any rate; at 1 Hz one packet is minutes

Block = tuple[int, "NDArray[np.int16]"]
"""Position of the first sample on the source's time line, and the samples."""


class SoundTrack:
    """Decodes, mixes to mono and resamples, all by libav.

    Stereo becomes the mean of left and right; more channels are mixed by libswresample's standard
    matrix, or become their mean where it has none (9 channels of no stated place). A block begins
    at round(t * sample_rate_hz), t being the presentation time of its first sample after
    `origin_s`; libswresample is free of delay, so this is exact to the sample.
    """

    def __init__(self, stream: AudioStream, sample_rate_hz: int, origin_s: Fraction) -> None:
        self.damage = ""  # what libav said about the last packet it could not decode
        self._stream = stream
        self._sample_rate_hz = sample_rate_hz
        self._origin_s = origin_s
        self._resampler: MonoResampler | None = None
        self._input_format: tuple[str, str, int] | None = None
        self._next_input_s = 0.0  # where the next input sample belongs if nothing is missing
        self._position = 0  # of the next output sample

    def push(self, packet: Packet[AudioStream] | None) -> Iterator[Block]:
        """Decode a packet, or what the decoder still holds; what cannot be leaves a gap."""
        try:
            frames = decode_sound(self._stream, packet)
        except STRANGE as error:
            if packet is not None:
                self.damage = str(error)
            return
        for frame in frames:
            if packet is None:
                frame.time_base = self._stream.time_base
            try:
                yield from self._push_frame(frame)
            except STRANGE as error:
                self.damage, self._resampler = str(error), None

    def finish(self) -> Iterator[Block]:
        """Give what decoder and resampler still hold; the track can then go on elsewhere."""
        yield from self.push(None)
        try:
            yield from self._end_segment()
        except STRANGE as error:
            self.damage = str(error)

    def _push_frame(self, frame: AudioFrame) -> Iterator[Block]:
        rate_hz = frame.sample_rate
        if not frame.samples:
            return
        if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
            raise ValueError(f"sound at {rate_hz} Hz")
        input_format = (frame.format.name, frame.layout.name, rate_hz)
        time_s = None
        if frame.pts is not None and frame.time_base is not None:
            time_s = frame.pts * frame.time_base - self._origin_s
        drifted = time_s is not None and abs(float(time_s) - self._next_input_s) > MAX_DRIFT_S
        if self._resampler is None or drifted or input_format != self._input_format:
            yield from self._end_segment()
            begin_s = Fraction(self._next_input_s) if time_s is None else time_s
            self._position = round(begin_s * self._sample_rate_hz)
            self._next_input_s = float(begin_s)
            self._input_format = input_format
            self._resampler = MonoResampler(self._sample_rate_hz)
        self._next_input_s += frame.samples / rate_hz
        yield from self._blocks(self._resampler.resample(frame))

    def _end_segment(self) -> Iterator[Block]:
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            yield from self._blocks(resampler.resample(None))

    def _blocks(self, frames: Sequence[AudioFrame | None]) -> Iterator[Block]:
        for frame in frames:
            if frame is not None:
                samples: NDArray[np.int16] = frame.to_ndarray()[0]
                yield self._position, samples
                self._position += samples.size


class MonoResampler:
    """libswresample to mono int16, with the mean of the channels where it has no matrix."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._resampler = self._new()
        self._by_mean = False
        self._begun = False

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """Take a frame, None at the end, and give mono frames; may raise STRANGE."""
        if frame is not None and self._by_mean:
            frame = mean_of_channels(frame)
        try:
            frames = self._resampler.resample(frame)
        except STRANGE:  # so it is for the first frame where there is no matrix
            if frame is None or self._begun or self._by_mean:
                raise
            self._resampler, self._by_mean = self._new(), True
            frames = self._resampler.resample(mean_of_channels(frame))
        self._begun = True
        return frames

    def _new(self) -> av.AudioResampler:
        return av.AudioResampler("s16", "mono", self._sample_rate_hz)


def mean_of_channels(frame: AudioFrame) -> AudioFrame:
    """Return the mean of a frame's channels as 64-bit floats, integers scaled to [-1, 1)."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mean = samples.mean(axis=0, dtype=np.float64)
    if samples.dtype.kind != "f":
        zero = 128 if samples.dtype.kind == "u" else 0
        mean = (mean - zero) / 2 ** (8 * samples.dtype.itemsize - 1)
    mono = av.AudioFrame.from_ndarray(mean[np.newaxis], "dbl", "mono")
    mono.sample_rate, mono.pts = frame.sample_rate, frame.pts
    if frame.time_base is not None:
        mono.time_base = frame.time_base
    return mono
