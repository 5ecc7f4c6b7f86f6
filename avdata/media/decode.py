"""All windows of a source in one sequential pass over the file.

Where the next window is far away the pass jumps to a key frame before it; otherwise every packet
is read once and decoded at most once. Memory holds the windows that are open, not the source.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdata.config import TrimSettings
from avdata.errors import ClipError, Reason
from avdata.media.container import audio_stream, open_media, pixel_aspect, video_stream
from avdata.media.cuts import Cut, OpenCut, VideoClock
from avdata.media.decord_pictures import DecordFile, DecordTrack
from avdata.media.jpeg import JpegWriter
from avdata.media.mp4 import Mp4Writer, Timing
from avdata.media.pictures import Picture, Pictures, PictureTrack
from avdata.media.sound import Block, SoundTrack
from avdata.media.strange import STRANGE
from avdata.steps.windows import Window

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEK_GAP_S = 10  # nearer windows are reached by decoding on; a key frame every 5 s is common
PREROLLS_S = (1, 30)  # how far before a window to look for a key frame; then from the beginning
HEAD_PACKETS = 2000  # where no key frame comes so soon after a jump, it went to a wrong place
PAST_END_S = 15  # how far one stream may run past the last window before the other is given up
ABSURD_S = 60  # packets that claim to lie so far after the end of the source are ignored
CUT_OFF_S = 0.5  # a file that ends so much earlier than it states was cut off
DEADLINE_S, DEADLINE_PER_S = 120.0, 30.0  # slower than 30 times real time: something hangs


def cut_source(
    path: Path, duration_ms: int, windows: Sequence[Window], settings: TrimSettings, scratch: Path
) -> Iterator[tuple[int, Cut | ClipError]]:
    """Give each window's index and what it holds, in order of start time.

    A window that cannot be cut gives its reason and leaves the others alone. Raises ClipError if
    the file cannot be opened or decoding hangs (timeout). `scratch` is for unfinished mp4 files.
    """
    order = sorted(range(len(windows)), key=lambda i: windows[i])
    with open_media(path) as container:
        source = _Source(container, path, duration_ms, settings, scratch)
        for group in _groups([windows[i] for i in order]):
            cuts = [source.open_cut(windows[order[n]]) for n in group]
            try:
                for n, result in zip(group, _GroupPass(source, cuts).run(), strict=True):
                    yield order[n], result
            finally:
                for cut in cuts:
                    cut.close()


def _groups(windows: Sequence[Window]) -> Iterator[range]:
    """Split windows, sorted by start, where the pass should jump."""
    begin, end_ms = 0, 0
    for index, window in enumerate(windows):
        if index > begin and window.start_ms > end_ms + SEEK_GAP_S * 1000:
            yield range(begin, index)
            begin = index
        end_ms = max(end_ms, window.end_ms)
    yield range(begin, len(windows))


class _Source:
    """An open file: its two streams, its time line, and how to get to a place in it."""

    def __init__(
        self,
        container: InputContainer,
        path: Path,
        duration_ms: int,
        settings: TrimSettings,
        scratch: Path,
    ) -> None:
        self.path = path
        self.settings = settings
        self.trouble = ""
        self.duration_s = Fraction(duration_ms, 1000)
        self.audio: AudioStream | None = audio_stream(container)
        wants_pictures = settings.video or settings.frame_rate_hz or settings.frames_per_clip
        self.video: VideoStream | None = video_stream(container) if wants_pictures else None
        self._container = container
        self._scratch = scratch
        self._moved = False
        self._decord_tried = False
        self._decord: DecordFile | None = None
        self._streams: list[Any] = [s for s in (self.video, self.audio) if s is not None]
        if not self._streams:
            raise ClipError(Reason.NO_AUDIO, "no audio stream, and no frames are asked for")
        # A source's time begins where the earlier of its two streams does.
        known = [s for s in self._streams if s.start_time is not None and s.time_base]
        starts = [s.start_time * s.time_base for s in known]
        self.origin_s = min(starts, default=Fraction(0))
        self.clock: VideoClock | None = None
        if self.video is not None:
            self.clock = VideoClock(self.video.time_base or Fraction(1, 1000), self.origin_s)
            self.jpeg = JpegWriter(settings, pixel_aspect(self.video))
        self._deadline = time.monotonic() + DEADLINE_S + DEADLINE_PER_S * float(self.duration_s)

    def open_cut(self, window: Window) -> OpenCut:
        writer = None
        if self.settings.video and self.video is not None and self.clock is not None:
            start_tick = self.clock.tick(Fraction(window.start_ms, 1000))
            writer = Mp4Writer(self._scratch, Timing.of(self.video), start_tick)
        return OpenCut(window, self.settings, self.clock, self.audio is not None, writer)

    def open_pictures(self, wanted_ticks: Sequence[int] | None) -> Pictures:
        """Return the decoder for a group of windows; None wants every picture."""
        assert self.video is not None
        if self.settings.decoder != "pyav" and wanted_ticks is not None:
            if not self._decord_tried:
                self._decord_tried = True
                self._decord = DecordFile.open(self.path, self.settings.decoder_threads)
            if self._decord is not None:
                return DecordTrack(self._decord, wanted_ticks)
        return PictureTrack(self.video, self.settings.decoder_threads, wanted_ticks)

    def packets(self, start_s: Fraction, end_s: Fraction) -> Iterator[tuple[Packet[Any], Fraction]]:
        """Give packets and their times, in file order, enough for `start_s` to `end_s`.

        Where the file cannot be read on they end, and `trouble` says why.
        """
        self.trouble = ""
        try:
            yield from self._packets(start_s, end_s)
        except STRANGE as error:
            self.trouble = f"the file cannot be read on: {error}"

    def _packets(
        self, start_s: Fraction, end_s: Fraction
    ) -> Iterator[tuple[Packet[Any], Fraction]]:
        for packet in self._from(start_s):
            if packet.size == 0 or packet.time_base is None:
                continue
            if time.monotonic() > self._deadline:
                raise ClipError(Reason.TIMEOUT, "decoding takes far too long; it seems to hang")
            time_s = self._time_s(packet, start_s)
            if time_s > max(self.duration_s, end_s) + ABSURD_S:
                continue
            if time_s > end_s + PAST_END_S:
                return
            yield packet, time_s

    def _from(self, start_s: Fraction) -> Iterator[Packet[Any]]:
        """Go to where all that is shown and heard at `start_s` can be decoded from."""
        if start_s <= SEEK_GAP_S and not self._moved:
            self._moved = True
            return iter(self._container.demux(self._streams))
        self._moved = True
        for preroll_s in PREROLLS_S:
            try:
                self._seek(start_s - preroll_s)
            except STRANGE:  # cannot jump: windows come in order, so reading on will do
                return iter(self._container.demux(self._streams))
            packets = iter(self._container.demux(self._streams))
            head = self._head(packets)
            first_s = {p.stream_index: self._time_s(p, start_s) for p in reversed(head)}
            late = [s for s in self._streams if first_s.get(s.index, math.inf) > start_s]
            # Without a picture before the window, begin anew; sound may simply have a gap.
            if not late or (preroll_s == PREROLLS_S[-1] and self._streams[0] not in late):
                return chain(head, packets)
        self._seek(Fraction(0))
        return iter(self._container.demux(self._streams))

    def _seek(self, time_s: Fraction) -> None:
        lead = self._streams[0]
        offset = math.floor((time_s + self.origin_s) / lead.time_base)
        self._container.seek(offset, stream=lead)

    def _head(self, packets: Iterator[Packet[Any]]) -> list[Packet[Any]]:
        """Return the packets up to where each stream has one, beginning at a key frame."""
        head: list[Packet[Any]] = []
        waiting = {stream.index for stream in self._streams}
        for _, packet in zip(range(HEAD_PACKETS), packets, strict=False):
            if packet.is_keyframe or packet.stream_index not in waiting:
                head.append(packet)
                waiting.discard(packet.stream_index)
            if not waiting:
                break
        return head

    def _time_s(self, packet: Packet[Any], default_s: Fraction) -> Fraction:
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.time_base is None:
            return default_s
        return stamp * packet.time_base - self.origin_s


class _GroupPass:
    """Reads from the first to the last window of a group, and fills them on the way."""

    def __init__(self, source: _Source, cuts: Sequence[OpenCut]) -> None:
        self._source = source
        self._open = deque(cuts)
        self._start_s, self._end_s = cuts[0].start_s, max(cut.end_s for cut in cuts)
        self._read_s = Fraction(0)  # time of the latest packet
        self._heard_until = 0  # in samples
        self._trouble = ""
        self._tolerance_ticks = 0
        self._last_jpeg: tuple[VideoFrame, tuple[bytes, tuple[int, int]]] | None = None
        settings = source.settings
        self._sound: SoundTrack | None = None
        if source.audio is not None:
            self._sound = SoundTrack(source.audio, settings.sample_rate_hz, source.origin_s)
        self._pictures: Pictures | None = None
        if source.video is not None and source.clock is not None:
            wanted = sorted(tick for cut in cuts for tick in cut.asked_ticks)
            self._pictures = source.open_pictures(None if settings.video else wanted)
            self._tolerance_ticks = source.clock.duration(settings.short_tolerance_s)

    def run(self) -> Iterator[Cut | ClipError]:
        """Give the windows' results in order, each as soon as nothing can change it."""
        for packet, time_s in self._source.packets(self._start_s, self._end_s):
            self._read_s = max(self._read_s, time_s)
            self._take(packet)
            while self._open and self._is_done(self._open[0]):
                yield self._result()
            if not self._open:
                return
        self._trouble = self._source.trouble
        self._finish()
        while self._open:
            yield self._result()

    def _take(self, packet: Packet[Any]) -> None:
        audio = self._source.audio
        if self._sound is not None and audio is not None and packet.stream_index == audio.index:
            self._hear(self._sound.push(packet))
        elif self._pictures is not None and any(cut.needs_pictures for cut in self._open):
            self._show(self._pictures.push(packet))

    def _finish(self) -> None:
        """Empty the decoders; the last picture stays on screen for the tolerance."""
        if self._sound is not None:
            self._hear(self._sound.finish())
        if self._pictures is not None:
            rest = list(self._pictures.finish())
            if rest:
                last = rest[-1]
                rest[-1] = replace(last, until_tick=last.until_tick + self._tolerance_ticks)
            self._show(rest)
        stated_s = min(self._source.duration_s, self._end_s)
        if not self._trouble and self._read_s < stated_s - CUT_OFF_S:
            self._trouble = f"the file ends at {float(self._read_s):.2f} s, it is cut off"

    def _hear(self, blocks: Iterable[Block]) -> None:
        for position, samples in blocks:
            self._heard_until = max(self._heard_until, position + samples.size)
            for cut in self._open:
                if cut.first_sample >= position + samples.size:
                    break  # windows are in order of their start
                cut.hear(position, samples)

    def _show(self, pictures: Iterable[Picture]) -> None:
        clock = self._source.clock
        assert clock is not None
        for picture in pictures:
            until_s = clock.time_s(picture.until_tick)
            for cut in self._open:
                if cut.start_s >= until_s:
                    break
                cut.show(picture, self._tolerance_ticks, self._encode)

    def _encode(self, frame: VideoFrame) -> tuple[bytes, tuple[int, int]]:
        if self._last_jpeg is None or self._last_jpeg[0] is not frame:
            self._last_jpeg = (frame, self._source.jpeg.encode(frame))
        return self._last_jpeg[1]

    def _is_done(self, cut: OpenCut) -> bool:
        return not (cut.needs_pictures or cut.needs_sound(self._heard_until))

    def _result(self) -> Cut | ClipError:
        tracks = (self._sound, self._pictures)
        damage = [track.damage for track in tracks if track is not None and track.damage]
        return self._open.popleft().result("; ".join(filter(None, [self._trouble, *damage])))
