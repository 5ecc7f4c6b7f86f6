"""Makes test videos whose content tells what was cut: a bar code of the frame number, and clicks.

Bar code: 16 vertical stripes over the whole picture, most significant bit left, bright is 1.
Clicks: the sample value at source time t is known exactly (see `click_track`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise
BITS = 16
CLICK_EVERY_S = 0.5


def bar_code(number: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Return an RGB picture that shows `number`."""
    bits = np.array([(number >> (BITS - 1 - i)) & 1 for i in range(BITS)])
    columns = np.where(bits[np.arange(width_px) * BITS // width_px], 220, 30).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(columns[None, :, None], (height_px, width_px, 3)))


def read_bar_code(image: NDArray[np.uint8]) -> int:
    """Return the number an RGB picture [height, width, 3] shows."""
    row = image.mean(axis=(0, 2))
    edges = np.arange(BITS + 1) * len(row) / BITS
    cells = [
        row[round(a + (b - a) * 0.3) : round(a + (b - a) * 0.7) + 1].mean()
        for a, b in itertools.pairwise(edges)
    ]
    return int("".join("1" if cell > 125 else "0" for cell in cells), 2)


def click_track(seconds: float, rate_hz: int, channels: int = 1) -> NDArray[np.int16]:
    """Return [channels, samples]: silence with one full-scale sample every CLICK_EVERY_S."""
    samples = np.zeros((channels, round(seconds * rate_hz)), np.int16)
    samples[:, :: round(CLICK_EVERY_S * rate_hz)] = 30000
    return samples


def noise_track(
    seconds: float, rate_hz: int, channels: int = 1, seed: int = 0
) -> NDArray[np.int16]:
    """Return [channels, samples] of loud noise: every sample differs from its neighbours."""
    rng = np.random.default_rng(seed)
    return rng.integers(-20000, 20000, (channels, round(seconds * rate_hz)), dtype=np.int16)


def make_video(
    path: Path,
    *,
    seconds: float = 4.0,
    fps: float = 25,
    times_s: Sequence[float] | None = None,
    width_px: int = 320,
    height_px: int = 180,
    gop: int = 50,
    b_frames: int = 3,
    video_codec: str | None = "libx264",
    rotation_deg: int = 0,
    pixel_aspect: Fraction | None = None,
    sound: NDArray[np.int16] | None = None,
    sound_rate_hz: int = 16000,
    sound_codec: str = "aac",
    sound_starts_s: float = 0.0,
    video_starts_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video of the format that the suffix says and return its path.

    Frame k shows bar code k, at k / fps or at `times_s[k]` (for variable frame rates).
    `rotation_deg` is the clockwise turn a player must make; the bar code is stored turned the
    other way, so that it can be read upright. `sound` is [channels, samples].
    """
    if times_s is None:
        times_s = [k / fps for k in range(round(seconds * fps))]
    with av.open(str(path), "w", options=options or {}) as container:
        video: Any = None
        if video_codec is not None:
            rate = Fraction(fps).limit_denominator(1001)
            video = container.add_stream(
                video_codec, rate=rate, options=_speed(video_codec, b_frames)
            )
            video.width, video.height = width_px, height_px
            video.pix_fmt = "yuv420p"
            video.gop_size = gop
            tick = Fraction(1, round(fps)) if video_codec == "mpeg4" else Fraction(1, 90000)
            video.codec_context.time_base = tick
            video.codec_context.thread_count = 1
            if pixel_aspect is not None:
                video.codec_context.sample_aspect_ratio = pixel_aspect
            if rotation_deg:
                video.set_display_rotation(-rotation_deg)
        audio: Any = None
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[sound.shape[0]]
            audio = container.add_stream(sound_codec, rate=sound_rate_hz, layout=layout)
        packets = []
        if video is not None:
            for number, time_s in enumerate(times_s):
                frame = _picture(number, width_px, height_px, rotation_deg)
                frame.pts = round((time_s + video_starts_s) / tick)
                frame.time_base = tick
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound.T.reshape(1, -1)), "s16", layout
            )
            frame.sample_rate = sound_rate_hz
            frame.pts = round(sound_starts_s * sound_rate_hz)
            frame.time_base = Fraction(1, sound_rate_hz)
            packets += _encode_sound(audio, frame)
        packets.sort(key=lambda p: float((p.dts if p.dts is not None else 0) * p.time_base))
        for packet in packets:
            container.mux(packet)
    return path


def _encode_sound(stream: Any, frame: Any) -> list[Any]:
    context = stream.codec_context
    resampler = av.AudioResampler(
        context.format, context.layout, context.sample_rate, context.frame_size or 1024
    )
    packets = []
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        packets += stream.encode(piece)
    return packets + stream.encode(None)


def _speed(codec: str, b_frames: int) -> dict[str, str]:
    """Return encoder options for speed, one thread and B-frames where there are any."""
    return {
        "libx264": {"preset": "veryfast", "crf": "23", "bf": str(b_frames), "threads": "1"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1"},
        "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})


def _picture(number: int, width_px: int, height_px: int, rotation_deg: int) -> Any:
    turned = rotation_deg % 180 != 0
    shown = bar_code(number, *((height_px, width_px) if turned else (width_px, height_px)))
    stored = np.ascontiguousarray(np.rot90(shown, rotation_deg // 90))
    return av.VideoFrame.from_ndarray(stored, "rgb24")
