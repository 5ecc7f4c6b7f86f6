"""One demo video as a file: h264 and AAC in mp4, the same bytes for the same timeline."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import ffmpeg
import soundfile

from avdata.demo.render import frames
from avdata.demo.sounds import RATE_HZ
from avdata.demo.soundtrack import soundtrack
from avdata.demo.timeline import FPS, HEIGHT_PX, WIDTH_PX, Timeline
from avdata.errors import AvdataError
from avdata.media import ffmpeg_binary


def encode(timeline: Timeline, target: Path) -> None:
    """Render and write one video; the encoder runs single-threaded and bit-exact.

    Raises AvdataError with ffmpeg's own words when it cannot write the file.
    """
    with tempfile.TemporaryDirectory(prefix="avdata-") as folder:
        sound = Path(folder) / "sound.wav"
        soundfile.write(sound, soundtrack(timeline), RATE_HZ, subtype="PCM_16")
        log = Path(folder) / "ffmpeg.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                _command(sound, target).compile(ffmpeg_binary()),
                stdin=subprocess.PIPE,
                stderr=errors,
            )
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:  # ffmpeg ended early: see its log
                for picture in frames(timeline):
                    process.stdin.write(picture.tobytes())
            status = process.wait()
        if status:
            words = log.read_text("utf-8", "replace").strip()
            raise AvdataError(f"ffmpeg could not write {target} (status {status}): {words[-500:]}")


def _command(sound: Path, target: Path) -> Any:
    """Return the ffmpeg command: raw RGB on standard input, sound from a file."""
    local = {"protocol_whitelist": "file,pipe"}
    size = f"{WIDTH_PX}x{HEIGHT_PX}"
    pictures = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="rgb24", s=size, r=FPS, **local)
    return ffmpeg.output(
        pictures.video,
        ffmpeg.input(str(sound), **local).audio,
        f"file:{target.absolute()}",
        f="mp4",
        vcodec="libx264",
        preset="veryfast",
        crf=22,
        g=2 * FPS,
        pix_fmt="yuv420p",
        acodec="aac",
        audio_bitrate="96k",
        movflags="+faststart",
        map_metadata=-1,
        threads=1,
        fflags="+bitexact",
        **{"flags:v": "+bitexact", "flags:a": "+bitexact"},
    ).global_args("-nostdin", "-v", "error", "-y")
