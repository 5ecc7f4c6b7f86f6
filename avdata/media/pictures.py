"""One video stream, decoded packet by packet in presentation order.

A picture is shown from its own time to that of the next one; that is how a frame "at time t" is
found whatever the frame rate does. H.264 pictures that nothing refers to and nobody asks for are
not decoded at all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from avdata.media.strange import STRANGE

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

LOOKAHEAD_PACKETS = 32  # H.264 reorders by at most 16 pictures
MAX_PIXELS = 8192 * 4352  # a bit flip can claim any size; nothing larger is decoded


@dataclass(frozen=True, slots=True)
class Picture:
    """What is shown during [tick, until_tick), in the stream's time base."""

    tick: int
    until_tick: int
    frame: VideoFrame | None  # None: damaged, or built on a damaged one


class Pictures(Protocol):
    """Anything that turns the packets of a video stream into pictures."""

    damage: str  # what was said about the last packet that could not be decoded, or ""

    def push(self, packet: Packet[VideoStream]) -> Iterator[Picture]:
        """Take the next packet in file order; give the pictures whose time on screen is known."""
        ...

    def finish(self) -> Iterator[Picture]:
        """Give what is still held."""
        ...


class PictureTrack:
    """Decodes with PyAV.

    After a packet that cannot be decoded, pictures count as damaged up to the next key frame,
    because they are predicted from what is missing.
    """

    def __init__(self, stream: VideoStream, threads: int, wanted_ticks: Sequence[int] | None):
        """`wanted_ticks`, ascending, are the times asked for; None: every picture is wanted."""
        self.damage = ""  # what libav said about the last packet it could not decode
        self._stream = stream
        self._wanted_ticks = wanted_ticks
        self._coming: deque[Packet[VideoStream]] = deque()
        self._known_ticks: list[int] = []  # of the packets coming and of as many past, ascending
        self._past_ticks: deque[int] = deque()
        self._damaged = False
        self._shown: tuple[int, VideoFrame | None] | None = None
        context = stream.codec_context
        if not context.is_open:
            context.thread_count = threads
            context.thread_type = "FRAME"
            # explode: report damage instead of painting over it.
            context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
        self._may_skip = wanted_ticks is not None and context.codec.canonical_name == "h264"

    def push(self, packet: Packet[VideoStream]) -> Iterator[Picture]:
        """Take the next packet in file order; give the pictures whose time on screen is known."""
        if not self._may_skip:
            yield from self._decode(packet)
            return
        self._coming.append(packet)
        if packet.pts is not None:
            insort(self._known_ticks, packet.pts)
        if len(self._coming) > LOOKAHEAD_PACKETS:
            yield from self._decode_next()

    def finish(self) -> Iterator[Picture]:
        """Give what is still held; the track can then go on elsewhere."""
        while self._coming:
            yield from self._decode_next()
        try:
            frames = self._stream.codec_context.decode(None)
        except STRANGE:
            frames = []
        for frame in frames:
            yield from self._show(frame)
        if self._shown is not None:
            tick, last = self._shown
            yield Picture(tick, tick + self._last_duration(last), last)
        self._shown, self._damaged = None, False
        self._known_ticks.clear()
        self._past_ticks.clear()

    def _last_duration(self, frame: VideoFrame | None) -> int:
        if frame is not None and frame.duration:
            return int(frame.duration)
        rate, time_base = self._stream.average_rate, self._stream.time_base
        return round(1 / (rate * time_base)) if rate and time_base else 0

    def _decode_next(self) -> Iterator[Picture]:
        packet = self._coming.popleft()
        skip = packet.pts is not None and not self._is_wanted(packet.pts)
        self._stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
        if packet.pts is not None:
            self._past_ticks.append(packet.pts)
            if len(self._past_ticks) > LOOKAHEAD_PACKETS:
                gone = self._past_ticks.popleft()
                self._known_ticks.pop(bisect_left(self._known_ticks, gone))
        yield from self._decode(packet)

    def _is_wanted(self, tick: int) -> bool:
        """Tell whether a wanted time falls between this picture and the one shown after it."""
        assert self._wanted_ticks is not None
        first = bisect_left(self._wanted_ticks, tick)
        if first == len(self._wanted_ticks):
            return False
        following = bisect_right(self._known_ticks, tick)
        if following == len(self._known_ticks):
            return True
        return self._wanted_ticks[first] < self._known_ticks[following]

    def _decode(self, packet: Packet[VideoStream]) -> Iterator[Picture]:
        try:
            frames = packet.decode()
        except STRANGE as error:
            self.damage, self._damaged = str(error), True
            return
        if packet.is_corrupt:
            self.damage, self._damaged = "a packet is marked as incomplete", True
        for frame in frames:
            yield from self._show(frame)

    def _show(self, frame: VideoFrame) -> Iterator[Picture]:
        tick = frame.dts if frame.pts is None else frame.pts
        if tick is None:
            return
        if frame.key_frame and not frame.is_corrupt:
            self._damaged = False
        if self._shown is not None:
            if tick <= self._shown[0]:
                return  # out of order: its time has passed
            yield Picture(self._shown[0], tick, self._shown[1])
        self._shown = (tick, None if self._damaged or frame.is_corrupt else frame)
