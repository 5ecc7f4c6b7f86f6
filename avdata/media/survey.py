"""One look through a file's packets: which way up it is shown, and how long it can really be.

A damaged or forged time scale makes seconds last for days. So a duration is believed only as far
as there are packets to fill it, with so much to spare that no honest file loses anything; the look
ends as soon as there are enough of them, after about an eighth of the file.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from avdata.media.strange import STRANGE

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

MAX_SAMPLES = 8192  # in a packet: eight times what AAC has, and more than Vorbis and Opus
MAX_LOSSLESS_SAMPLES = 300_000  # Monkey's Audio
LOSSLESS = ("alac", "ape", "flac", "tta", "wavpack")
MAX_STILL_S = {True: 1, False: 2}  # how long a picture stays, with sound beside it and without
MIN_RATE_HZ = 1000
ROTATION_PACKETS = 32  # how far to look for a decodable picture that tells the rotation


def survey(
    container: InputContainer, video: VideoStream | None, audio: AudioStream | None
) -> tuple[int, int]:
    """Return the clockwise turn that shows the pictures upright, and the duration in ms.

    `container` must not have been read from; may raise STRANGE.
    """
    stated_s: Fraction | None = None
    if container.duration is not None:
        stated_s = Fraction(max(0, container.duration), 1_000_000)
    counted = _Count(video, audio)
    rotation_deg, look = 0, ROTATION_PACKETS if video is not None else 0
    if video is not None:
        video.codec_context.thread_count = 1
    start_s = end_s = Fraction(container.start_time or 0, 1_000_000)
    try:
        for packet in container.demux([s for s in (video, audio) if s is not None]):
            if stated_s is not None and not look and counted.most_s >= stated_s:
                break
            if packet.size == 0:
                continue
            counted.add(packet)
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if look and video is not None and packet.stream_index == video.index:
                turn_deg = _turn_deg(packet)
                look = look - 1 if turn_deg is None else 0
                rotation_deg = turn_deg or 0
    except STRANGE:
        if stated_s is None:
            raise
    duration_s = end_s - start_s if stated_s is None else stated_s
    return rotation_deg, round(min(duration_s, counted.most_s) * 1000)


def clockwise_deg(frame: Any) -> int:
    """Return the clockwise turn that shows a decoded picture upright: 0, 90, 180 or 270."""
    return int(round(-frame.rotation / 90) * 90 % 360)


class _Count:
    """How long the packets that were seen can last at most."""

    def __init__(self, video: VideoStream | None, audio: AudioStream | None) -> None:
        self._still_s = MAX_STILL_S[audio is not None]
        self._audio = audio
        self._samples = 0
        self._pictures = 0
        self._rate_hz, self._max_samples = MIN_RATE_HZ, MAX_SAMPLES
        if audio is not None:
            self._rate_hz = max(MIN_RATE_HZ, audio.codec_context.sample_rate)
            if audio.codec_context.codec.canonical_name in LOSSLESS:
                self._max_samples = MAX_LOSSLESS_SAMPLES

    def add(self, packet: Packet[Any]) -> None:
        if self._audio is not None and packet.stream_index == self._audio.index:
            self._samples += max(self._max_samples, packet.size)  # PCM has a byte or more each
        else:
            self._pictures += 1

    @property
    def most_s(self) -> Fraction:
        heard_s = Fraction(self._samples, self._rate_hz)
        return max(heard_s, Fraction(self._pictures * self._still_s))


def _turn_deg(packet: Packet[Any]) -> int | None:
    """Return the turn that the first picture of a packet asks for; None if it gives none."""
    try:
        frames = packet.decode()
        return clockwise_deg(frames[0]) if frames else None
    except STRANGE:
        return None
