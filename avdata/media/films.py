"""Whole films: every picture of a video in order, and new pictures put over a soundtrack.

    with pictures_of(path) as pictures:
        for picture in pictures:
            writer.add(drawn(picture.image), picture.time_s)
    write_film(target, writer.finish(), path, gain_db=6)

Times count from where the earlier of sound and pictures begins, as everywhere in the data half.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import ffmpeg
import numpy as np
from av.video.reformatter import VideoReformatter

from avdata.config import TrimSettings
from avdata.errors import ClipError, Reason
from avdata.frames import decode_jpeg
from avdata.media.container import (
    DEMUXERS,
    MAX_SIDE_PX,
    audio_stream,
    ffmpeg_binary,
    open_media,
    pixel_aspect,
    probe,
    video_stream,
)
from avdata.media.decode import cut_source
from avdata.media.mp4 import BIT_EXACT, Mp4Writer, Timing
from avdata.media.pictures import Picture, PictureTrack
from avdata.media.sound import Block, SoundTrack
from avdata.media.strange import STRANGE
from avdata.media.survey import clockwise_deg
from avdata.steps.windows import Window, fit_window

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

SPARE_S = 1  # how far sound may run past the stated end
TICKS_PER_S = 90_000  # of what is written: fine enough to keep the source's times


@dataclass(frozen=True, slots=True)
class FilmPicture:
    """A picture uint8 RGB [H, W, 3], upright and of square pixels, shown from time_s on."""

    time_s: Fraction
    image: NDArray[np.uint8]


@contextmanager
def pictures_of(path: Path) -> Iterator[Iterator[FilmPicture]]:
    """Open a video and give its pictures one by one, at their own times; damaged ones are left out.

    Raises ClipError: no_video, or what `open_media` says; corrupt if not one can be decoded.
    """
    with open_media(path) as container:
        video = video_stream(container)
        if video is None:
            raise ClipError(Reason.NO_VIDEO, "only sound, no pictures")
        yield _upright(container, video)


def _upright(container: InputContainer, video: VideoStream) -> Iterator[FilmPicture]:
    origin_s = _origin_s(container)
    time_base = video.time_base or Fraction(1, 1000)
    track, to_rgb, aspect = PictureTrack(video, 1, None), VideoReformatter(), pixel_aspect(video)
    shown = 0
    try:
        for picture in _pictures(container, video, track):
            if picture.frame is not None:
                image = _image(picture.frame, to_rgb, aspect)
                yield FilmPicture(picture.tick * time_base - origin_s, image)
                shown += 1
    except STRANGE as error:
        raise ClipError(Reason.CORRUPT, f"the file cannot be read on: {error}") from None
    if not shown:
        raise ClipError(Reason.CORRUPT, f"not one picture can be decoded: {track.damage}")


def _origin_s(container: InputContainer) -> Fraction:
    """Return when the earlier of the two streams begins, on the file's own clock."""
    streams = [s for s in (video_stream(container), audio_stream(container)) if s is not None]
    starts = [
        s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base
    ]
    return min(starts, default=Fraction(0))


def _pictures(
    container: InputContainer, video: VideoStream, track: PictureTrack
) -> Iterator[Picture]:
    for packet in container.demux(video):
        if packet.size:
            yield from track.push(packet)
    yield from track.finish()


def _image(frame: VideoFrame, to_rgb: VideoReformatter, aspect: Fraction) -> NDArray[np.uint8]:
    width_px = max(1, round(frame.width * aspect))
    if max(width_px, frame.height) > MAX_SIDE_PX:
        raise ClipError(Reason.CORRUPT, f"a picture of {width_px} x {frame.height} pixels")
    flat = to_rgb.reformat(frame, width_px, frame.height, "rgb24", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(flat, -clockwise_deg(frame) // 90))


def sound_of(path: Path, rate_hz: int) -> NDArray[np.int16]:
    """Return the whole sound of a film or a sound file, mono, from where the film begins.

    Raises ClipError: no_audio for a film without sound, or what is wrong with the file.
    """
    found = probe(path)
    if not found.audio_codec:
        raise ClipError(Reason.NO_AUDIO, f"no sound, only pictures ({found.video_codec})")
    most = math.ceil((found.duration_ms / 1000 + SPARE_S) * rate_hz)  # times may be damaged
    blocks: list[Block] = []
    with open_media(path) as container:
        audio = audio_stream(container)
        assert audio is not None
        track = SoundTrack(audio, rate_hz, _origin_s(container))
        try:
            for packet in container.demux(audio):
                if packet.size:
                    blocks += track.push(packet)
        except STRANGE as error:
            raise ClipError(Reason.CORRUPT, f"the file cannot be read on: {error}") from None
        blocks += track.finish()
    samples = np.zeros(most, np.int16)
    end = 0
    for position, block in blocks:
        first, kept = max(position, 0), block[max(-position, 0) : max(most - position, 0)]
        samples[first : first + len(kept)] = kept
        end = max(end, first + len(kept))
    if not end:
        raise ClipError(Reason.CORRUPT, f"no sound can be decoded: {track.damage}")
    return samples[:end]


def still(path: Path, start_s: float, length_s: float) -> NDArray[np.uint8] | None:
    """Return the picture [H, W, 3] in the middle of a part of a film; None where it shows none."""
    settings = TrimSettings(
        frames_per_clip=1, width_px=None, height_px=None, short_clips="keep", jpeg_quality=95
    )
    try:
        found = probe(path)
        if not found.video_codec:
            return None
        wanted = Window(round(start_s * 1000), round((start_s + length_s) * 1000))
        window = fit_window(wanted, found.duration_ms, settings)
        with tempfile.TemporaryDirectory(prefix="avdata-") as scratch:
            ((_, cut),) = cut_source(path, found.duration_ms, [window], settings, Path(scratch))
        return None if isinstance(cut, ClipError) else decode_jpeg(cut.frames[0][1])
    except ClipError:
        return None


class FilmWriter:
    """New pictures as H.264, each shown from its own time on, as yet without sound."""

    def __init__(self, scratch: Path) -> None:
        timing = Timing(Fraction(1, TICKS_PER_S), Fraction(25), Fraction(1))
        self._mp4 = Mp4Writer(scratch, timing, 0)

    def add(self, image: NDArray[np.uint8], time_s: Fraction) -> None:
        """Append a picture uint8 RGB [H, W, 3]; all have one size, of even sides."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        self._mp4.add(frame, round(time_s * TICKS_PER_S))

    def finish(self) -> bytes:
        """Return the film; raises ValueError if it has no picture."""
        data = self._mp4.finish(np.zeros(0, np.int16), 1)
        if data is None:
            raise ValueError("a film needs at least one picture")
        return data

    def abort(self) -> None:
        """Stop what is unfinished; nothing to do after `finish`."""
        self._mp4.abort()


def write_film(
    target: Path, film: bytes, sound: Path, *, gain_db: float, fill_s: float | None = None
) -> None:
    """Write pictures with the first sound of another file, amplified; too loud is cut at ±1.

    fill_s: let the sound start over, or be cut, so that it lasts so long; else it keeps its place
    on the film's time line. Raises ClipError (corrupt) for sound that ffmpeg cannot read.
    """
    with tempfile.TemporaryDirectory(prefix="avdata-") as scratch:
        silent = Path(scratch, "silent.mp4")
        silent.write_bytes(film)
        options = {} if fill_s is None else {"stream_loop": -1}
        # The file: prefix keeps a name such as concat:x from being read as a protocol.
        heard = ffmpeg.input(
            "file:" + os.path.abspath(sound),
            protocol_whitelist="file",
            format_whitelist=DEMUXERS,
            **options,
        )
        louder = heard["a:0"].filter("volume", volume=10 ** (gain_db / 20), precision="double")
        picture = ffmpeg.input(str(silent), protocol_whitelist="file")
        stream = ffmpeg.output(
            picture.video,
            louder.filter("aformat", sample_fmts="s16"),  # cuts what is too loud
            str(target),
            f="mp4",
            vcodec="copy",
            acodec="aac",
            movflags="+faststart",
            **({} if fill_s is None else {"t": fill_s}),
            **{"b:a": "192k", "flags:a": "+bitexact"},
            **BIT_EXACT,
        )
        words = stream.global_args("-nostdin", "-v", "error", "-y").compile(ffmpeg_binary())
        done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise ClipError(Reason.CORRUPT, f"ffmpeg could not write {target}: {said[-2000:]}")
