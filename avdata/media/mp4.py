"""A clip as mp4 (H.264 + AAC), fed with decoded pictures and sound, written by the ffmpeg binary.

Pictures go to ffmpeg through a pipe as raw video in NUT, which keeps every timestamp, so variable
frame rates survive; the sound is added when the window is complete. One thread and bit-exact
flags: the same clip gives the same bytes.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import uuid
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import ffmpeg
from av.video.reformatter import VideoReformatter

from avdata.errors import ClipError, Reason
from avdata.media.container import MAX_SIDE_PX, ffmpeg_binary, pixel_aspect
from avdata.media.strange import STRANGE
from avdata.media.survey import clockwise_deg

if TYPE_CHECKING:
    import numpy as np
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

CRF = 18  # visually lossless
BIT_EXACT = {"map_metadata": -1, "fflags": "+bitexact", "flags:v": "+bitexact", "threads": 1}
TURNS = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}


@dataclass(frozen=True, slots=True)
class Timing:
    """How the pictures that come are timed and shaped."""

    time_base: Fraction | None
    rate: Fraction  # pictures per second, about
    pixel_aspect: Fraction  # width of a pixel over its height

    @classmethod
    def of(cls, stream: VideoStream) -> Timing:
        """Return what a source's stream says."""
        return cls(stream.time_base, stream.average_rate or Fraction(25), pixel_aspect(stream))


class Mp4Writer:
    """Writes one clip; nothing is started before the first picture comes."""

    def __init__(self, scratch: Path, timing: Timing, start_tick: int) -> None:
        self._path = scratch / f"{uuid.uuid4().hex}.mp4"
        self._timing = timing
        self._start_tick = start_tick
        self._process: subprocess.Popen[bytes] | None = None
        self._nut: OutputContainer | None = None
        self._output: Any = None
        self._size_px: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()

    def add(self, frame: VideoFrame, tick: int) -> None:
        """Append a picture shown from `tick`, in the stream's time base.

        Raises ClipError (corrupt) for a picture that cannot be converted.
        """
        width_px, height_px = self._size_px or (frame.width, frame.height)
        if max(width_px, height_px) > MAX_SIDE_PX:
            raise ClipError(Reason.CORRUPT, f"a picture of {width_px} x {height_px} pixels")
        try:
            raw = self._reformatter.reformat(frame, width_px, height_px, "yuv420p", threads=1)
            if raw is frame:  # nothing to convert; the original keeps its own time
                raw = av.VideoFrame.from_ndarray(frame.to_ndarray(), "yuv420p")
            raw.pts = max(0, tick - self._start_tick)
            raw.time_base = self._timing.time_base
            turn = TURNS.get(clockwise_deg(frame))
        except STRANGE as error:
            raise ClipError(Reason.CORRUPT, f"a picture cannot be converted: {error}") from None
        if self._nut is None:
            self._start(width_px, height_px, turn)
        self._mux(self._output.encode(raw))

    def finish(self, samples: NDArray[np.int16], sample_rate_hz: int) -> bytes | None:
        """Return the clip with its sound; None if it never got a picture."""
        if self._nut is None or self._process is None:
            return None
        self._mux(self._output.encode(None))
        try:
            self._nut.close()
            assert self._process.stdin is not None
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg ended early; its message follows
        self._check(self._process.wait())
        if samples.size:
            self._add_sound(samples, sample_rate_hz)
        data = self._path.read_bytes()
        self._nut = self._process = None
        self._remove()
        return data

    def abort(self) -> None:
        """Stop ffmpeg and remove what it wrote; nothing to do after `finish`."""
        if self._process is not None:
            self._process.kill()
            assert self._process.stdin is not None
            with suppress(BrokenPipeError, av.FFmpegError):
                if self._nut is not None:
                    self._nut.close()
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            self._nut = self._process = None
            self._remove()

    def _start(self, width_px: int, height_px: int, turn: str | None) -> None:
        self._size_px = (width_px, height_px)
        aspect = self._timing.pixel_aspect
        even = f"scale=max(2\\,trunc(iw*{aspect.numerator}/{aspect.denominator}/2)*2)"
        even += ":max(2\\,trunc(ih/2)*2),setsar=1"
        stream = ffmpeg.input("pipe:0", f="nut", protocol_whitelist="file,pipe").output(
            str(self._path),
            vf=f"{even},{turn}" if turn else even,
            vcodec="libx264",
            preset="veryfast",
            crf=CRF,
            pix_fmt="yuv420p",
            fps_mode="passthrough",
            enc_time_base="1:90000",  # fine enough to keep the source's times
            **BIT_EXACT,
        )
        self._process = self._run(stream)
        # FFmpeg itself writes to the descriptor: inside the write method of a Python file PyAV
        # would swallow what a signal (Ctrl-C) raises, and with it the bytes.
        assert self._process.stdin is not None
        self._nut = av.open(f"pipe:{self._process.stdin.fileno()}", "w", format="nut")
        self._output = self._nut.add_stream("rawvideo", rate=self._timing.rate)
        self._output.width, self._output.height = width_px, height_px
        self._output.pix_fmt = "yuv420p"
        self._output.codec_context.time_base = self._timing.time_base

    def _add_sound(self, samples: NDArray[np.int16], sample_rate_hz: int) -> None:
        silent = self._path.with_suffix(".silent.mp4")
        self._path.replace(silent)
        sound = ffmpeg.input("pipe:0", f="s16le", ar=sample_rate_hz, ac=1)
        picture = ffmpeg.input(str(silent), protocol_whitelist="file,pipe")
        stream = ffmpeg.output(
            picture.video,
            sound.audio,
            str(self._path),
            vcodec="copy",
            acodec="aac",
            movflags="+faststart",
            **{"b:a": "128k", "flags:a": "+bitexact"},
            **BIT_EXACT,
        )
        process = self._run(stream)
        process.communicate(samples.astype("<i2").tobytes())
        self._check(process.returncode)

    def _run(self, stream: Any) -> subprocess.Popen[bytes]:
        arguments = stream.global_args("-nostdin", "-v", "error", "-y").compile(ffmpeg_binary())
        with self._log.open("wb") as log:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                process_group=0,  # Ctrl-C in a terminal is for this process alone
            )

    def _mux(self, packets: Any) -> None:
        assert self._nut is not None
        assert self._process is not None
        try:
            self._nut.mux(packets)
        except (BrokenPipeError, av.FFmpegError):
            self._check(self._process.wait())
            raise

    def _check(self, returncode: int) -> None:
        if returncode:
            said = self._log.read_text(errors="replace").strip()
            if os.strerror(errno.ENOSPC) in said:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            raise RuntimeError(f"ffmpeg could not write {self._path}: {said[-2000:]}")

    @property
    def _log(self) -> Path:
        # Not in the run's folder, whose disk may be full.
        return Path(tempfile.gettempdir(), f"avdata-{self._path.stem}.log")

    def _remove(self) -> None:
        for path in (self._path, self._path.with_suffix(".silent.mp4"), self._log):
            path.unlink(missing_ok=True)
