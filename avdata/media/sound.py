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

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from numpy.typing import NDArray

MAX_DRIFT_S = 0.01  # Matroska rounds timestamps to 1 ms; more than 10 ms off is a real gap

Block = tuple[int, "NDArray[np.int16]"]
"""Position of the first sample on the source's time line, and the samples."""


class SoundTrack:
    """Decodes, mixes to mono and resamples, all by libav.

    Stereo becomes the mean of left and right; more channels are mixed by libswresample's standard
    matrix. A block begins at round(t * sample_rate_hz), t being the presentation time of its
    first sample after `origin_s`; libswresample is free of delay, so this is exact to the sample.
    """

    def __init__(self, stream: AudioStream, sample_rate_hz: int, origin_s: Fraction) -> None:
        self.damage = ""  # what libav said about the last packet it could not decode
        self._stream = stream
        self._sample_rate_hz = sample_rate_hz
        self._origin_s = origin_s
        self._resampler: av.AudioResampler | None = None
        self._input_format: tuple[str, str, int] | None = None
        self._next_input_s = 0.0  # where the next input sample belongs if nothing is missing
        self._position = 0  # of the next output sample

    def push(self, packet: Packet[AudioStream]) -> Iterator[Block]:
        """Decode a packet; what cannot be decoded leaves a gap."""
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.FFmpegError as error:
            self.damage = str(error)
            return
        for frame in frames:
            yield from self._push_frame(frame)

    def finish(self) -> Iterator[Block]:
        """Give what decoder and resampler still hold; the track can then go on elsewhere."""
        try:
            frames = self._stream.codec_context.decode(None)
        except (av.FFmpegError, EOFError):
            frames = []
        for frame in frames:
            frame.time_base = self._stream.time_base
            yield from self._push_frame(frame)
        yield from self._end_segment()

    def _push_frame(self, frame: AudioFrame) -> Iterator[Block]:
        rate_hz = frame.sample_rate
        if not rate_hz or not frame.samples:
            return
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
            self._resampler = av.AudioResampler("s16", "mono", self._sample_rate_hz)
        self._next_input_s += frame.samples / rate_hz
        yield from self._blocks(self._resampler.resample(frame))

    def _end_segment(self) -> Iterator[Block]:
        if self._resampler is not None:
            yield from self._blocks(self._resampler.resample(None))
        self._resampler = None

    def _blocks(self, frames: Sequence[AudioFrame | None]) -> Iterator[Block]:
        for frame in frames:
            if frame is not None:
                samples: NDArray[np.int16] = frame.to_ndarray()[0]
                yield self._position, samples
                self._position += samples.size
