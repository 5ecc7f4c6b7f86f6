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

from avdata.media.strange import STRANGE, decode_sound, layout_of

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from numpy.typing import NDArray

MAX_DRIFT_S = 0.01  # Matroska rounds timestamps to 1 ms; more than 10 ms off is a real gap
MAX_CHANNELS = 64  # of libswresample
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
        self._resampler = self._to_mono()
        self._begun = False
        self._mean: MeanOfChannels | None = None

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """Take a frame, None at the end, and give mono frames; may raise STRANGE."""
        if self._mean is None:
            try:
                frames = self._resampler.resample(frame)
                self._begun = True
                return frames
            except STRANGE:  # so it is for the first frame where there is no matrix
                if frame is None or self._begun:
                    raise
                self._resampler, self._mean = self._to_mono(), MeanOfChannels(frame)
        if frame is None:
            return self._resampler.resample(None)
        means = self._mean.of(frame)
        return [mono for mean in means for mono in self._resampler.resample(mean)]

    def _to_mono(self) -> av.AudioResampler:
        return av.AudioResampler("s16", "mono", self._sample_rate_hz)


class MeanOfChannels:
    """The mean of the channels of frames that all have the format of the first one."""

    def __init__(self, first: AudioFrame) -> None:
        self._packer: av.AudioResampler | None = None
        if first.format.is_planar:
            # PyAV looks for the planes of more than eight channels beyond their end.
            layout = layout_of(first)
            if layout.nb_channels > MAX_CHANNELS:
                raise ValueError(f"{layout.nb_channels} channels, {MAX_CHANNELS} can be mixed")
            self._packer = av.AudioResampler("dbl", layout.name, first.sample_rate)

    def of(self, frame: AudioFrame) -> list[AudioFrame]:
        """Return mono frames of 64-bit floats, integers scaled to [-1, 1); may raise STRANGE."""
        packed = [frame]
        if self._packer is not None:
            packed = self._packer.resample(frame)  # the rate stays, so nothing is held back
        return [_mean(piece) for piece in packed]


def _mean(frame: AudioFrame) -> AudioFrame:
    samples = frame.to_ndarray().reshape(-1, layout_of(frame).nb_channels)
    mean = samples.mean(axis=1, dtype=np.float64)
    if samples.dtype.kind != "f":
        zero = 128 if samples.dtype.kind == "u" else 0
        mean = (mean - zero) / 2 ** (8 * samples.dtype.itemsize - 1)
    mono = av.AudioFrame.from_ndarray(mean[np.newaxis], "dbl", "mono")
    mono.sample_rate, mono.pts = frame.sample_rate, frame.pts
    if frame.time_base is not None:
        mono.time_base = frame.time_base
    return mono
