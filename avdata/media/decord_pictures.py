"""Pictures by decord, for those who prefer it; what it cannot read is left to PyAV.

decord numbers pictures and knows their times only in single precision, so the exact times come
from the packets. It turns pictures upright by itself, and paints over most damage unsaid.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from avdata.media.container import open_media, pixel_aspect, video_stream
from avdata.media.pictures import Picture
from avdata.media.strange import STRANGE

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # it loses count in MPEG-TS
DECODABLE = ("h264", "vp8", "vp9")  # it mistakes pictures in HEVC and knows no AV1


class DecordFile:
    """A video opened by decord, with the time of each of its pictures."""

    def __init__(self, reader: Any, ticks: list[int], end_tick: int) -> None:
        self.reader = reader
        self.ticks = ticks
        self.end_tick = end_tick

    @classmethod
    def open(cls, path: Path, threads: int) -> DecordFile | None:
        """Open a file; None where decord cannot, or sees other pictures than the packets tell."""
        with open_media(path) as container:
            video = video_stream(container)
            if video is None or video.codec_context.codec.canonical_name not in DECODABLE:
                return None
            if container.format.name not in CONTAINERS or pixel_aspect(video) != 1:
                return None
            spans = {}
            try:
                for packet in container.demux(video):
                    if packet.is_corrupt or (packet.size and packet.pts is None):
                        return None
                    if packet.size and packet.pts is not None and not packet.is_discard:
                        spans[packet.pts] = packet.duration or 0
            except STRANGE:
                return None
        try:
            import decord
        except ImportError:
            return None
        ticks = sorted(spans)
        try:
            reader = decord.VideoReader(
                str(path.absolute()), ctx=decord.cpu(0), num_threads=threads
            )
            if not ticks or len(reader) != len(ticks):
                return None
        except decord.DECORDError:
            return None
        return cls(reader, ticks, ticks[-1] + spans[ticks[-1]])

    def picture(self, index: int) -> tuple[Picture, str]:
        """Return the picture of that number in presentation order, and what is damaged if it is."""
        import decord

        until = self.ticks[index + 1] if index + 1 < len(self.ticks) else self.end_tick
        try:
            frame = av.VideoFrame.from_ndarray(self.reader[index].asnumpy(), "rgb24")
        except decord.DECORDError as error:
            return Picture(self.ticks[index], until, None), str(error)
        return Picture(self.ticks[index], until, frame), ""


class DecordTrack:
    """Gives the wanted pictures of a DecordFile when the packets reach their time."""

    def __init__(self, file: DecordFile, wanted_ticks: Sequence[int]) -> None:
        self.damage = ""
        self._file = file
        numbers = {max(0, bisect_right(file.ticks, tick) - 1) for tick in wanted_ticks}
        self._wanted = sorted(numbers, reverse=True)

    def push(self, packet: Packet[VideoStream]) -> Iterator[Picture]:
        """Give the wanted pictures up to this packet's time."""
        while self._wanted and packet.pts is not None:
            if self._file.ticks[self._wanted[-1]] > packet.pts:
                return
            yield self._next()

    def finish(self) -> Iterator[Picture]:
        """Give the wanted pictures that are left."""
        while self._wanted:
            yield self._next()

    def _next(self) -> Picture:
        picture, damage = self._file.picture(self._wanted.pop())
        self.damage = damage or self.damage
        return picture
