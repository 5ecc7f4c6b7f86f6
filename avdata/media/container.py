"""The only place that runs ffmpeg or opens a container: where the binary is, what a file holds.

Files come from strangers. libav is told to read nothing but the file itself (protocol whitelist)
and to refuse every format that makes it open further files or URLs (demuxer whitelist): playlists,
HLS, DASH, concat and SDP scripts are "not media" here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from avdata.errors import AvdataError, ClipError, Reason

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,nut,mxf,rm,dv,gif,"
    "wav,w64,aiff,au,caf,mp3,aac,ac3,eac3,amr,flac,ape,tta,wv"
)
"""Formats that hold their media in one file (libavformat's names)."""

_SIGNATURES = (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"FLV\x01", b"ID3", b"fLaC", b"\0\0\x01\xba")
_OTHER_FILES = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "XML",
    b"#extm3u": "a playlist",
    b"{": "JSON",
    b"%pdf": "a PDF",
    b"pk\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x89png": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")
MAX_SIDE_PX = 16_384  # of a picture; encoders take no larger one


@dataclass(frozen=True, slots=True)
class Probe:
    """What a media file holds; names are empty and numbers 0 where a stream is absent."""

    duration_ms: int  # as stated, but no more than the packets can hold
    width_px: int  # as displayed: pixel shape and rotation applied
    height_px: int
    fps: float  # average; 0.0 when unknown
    rotation_deg: int  # clockwise turn that shows the picture upright: 0, 90, 180 or 270
    video_codec: str
    audio_codec: str
    audio_rate_hz: int
    audio_channels: int


@cache
def ffmpeg_binary() -> str:
    """Return the path of ffmpeg: the one on PATH, else the one inside the imageio-ffmpeg wheel."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise AvdataError(
            f"no ffmpeg on PATH and none from imageio-ffmpeg ({error}); "
            "install one of them: apt install ffmpeg, or pip install imageio-ffmpeg"
        ) from None


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a local media file for reading, unable to reach anything else.

    Raises ClipError (empty, not_media, corrupt); libav errors inside the block are not translated.
    """
    import av

    from avdata.media.strange import STRANGE

    if path.stat().st_size == 0:
        raise ClipError(Reason.EMPTY, "the file has no bytes")
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
    try:
        # The file: prefix keeps a name such as concat:x from being read as a protocol.
        container = av.open(
            "file:" + os.path.abspath(path), options=options, metadata_errors="replace"
        )
    except STRANGE as error:
        raise _cannot_open(path, error) from None
    with container:
        yield container


def _cannot_open(path: Path, error: Exception) -> ClipError:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(_SIGNATURES) or head[4:8] in _MP4_BOXES:
        return ClipError(Reason.CORRUPT, f"damaged or cut off, cannot be opened: {error}")
    return ClipError(Reason.NOT_MEDIA, f"not a media file but {_looks_like(head)}")


def _looks_like(head: bytes) -> str:
    """Say what a file is by how it begins; its bytes may be nobody's business."""
    for begins, kind in _OTHER_FILES.items():
        if head.lower().startswith(begins):
            return kind
    if not head.strip(b"\0"):
        return "zeros"
    return "text" if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head) else "other data"


def probe(path: Path) -> Probe:
    """Return what a local media file holds, by PyAV (no ffprobe needed).

    Raises ClipError: empty, not_media (including playlists and files without audio and video
    streams) or corrupt.
    """
    from avdata.media.strange import STRANGE, layout_of
    from avdata.media.survey import survey

    with open_media(path) as container:
        try:
            video, audio = video_stream(container), audio_stream(container)
            if video is None and audio is None:
                raise ClipError(Reason.NOT_MEDIA, "neither an audio nor a video stream")
            rotation_deg, duration_ms = survey(container, video, audio)
            width_px, height_px = displayed_size(video, rotation_deg) if video else (0, 0)
            return Probe(
                duration_ms=duration_ms,
                width_px=width_px,
                height_px=height_px,
                fps=float(video.average_rate or 0) if video else 0.0,
                rotation_deg=rotation_deg,
                video_codec=video.codec_context.codec.canonical_name if video else "",
                audio_codec=audio.codec_context.codec.canonical_name if audio else "",
                audio_rate_hz=audio.codec_context.sample_rate if audio else 0,
                audio_channels=layout_of(audio.codec_context).nb_channels if audio else 0,
            )
        except STRANGE as error:
            raise ClipError(Reason.CORRUPT, f"cannot be read: {error}") from None


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the main video stream; a cover picture is none, nor is a codec libav lacks."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    return max(moving, key=lambda s: s.width * s.height, default=None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the first audio stream that libav can decode."""
    streams = (s for s in container.streams.audio if s.codec_context is not None)
    return next(streams, None)


def displayed_size(video: VideoStream, rotation_deg: int) -> tuple[int, int]:
    """Return width and height in pixels as a player shows them."""
    aspect = pixel_aspect(video)
    width_px, height_px = round(video.width * aspect), video.height
    return (height_px, width_px) if rotation_deg % 180 else (width_px, height_px)


def pixel_aspect(video: VideoStream) -> Fraction:
    """Return the width of a pixel over its height; 1 when the file states none or nonsense."""
    aspect = video.sample_aspect_ratio
    sane = aspect and Fraction(1, 8) <= aspect <= 8 and video.width * aspect <= MAX_SIDE_PX
    return aspect if aspect and sane else Fraction(1)
