"""What benchmarks share: input videos, and the bare ffmpeg pass to compare with."""

from __future__ import annotations

import os
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from avdata.media import ffmpeg_binary

WIDTH_PX, HEIGHT_PX, FPS, SECONDS, SOUND_HZ = 640, 360, 30, 30, 44100
FFMPEG = ("-nostdin", "-v", "error", "-y", "-threads", "1")


def input_videos(count: int) -> list[Path]:
    """Return `count` videos of 30 s, 640 x 360, 30 fps, H.264 + AAC; made once, then kept.

    A texture is panned over, sprites move, grain flickers (0.5-1 Mbit/s), the top rows carry the
    frame number as a bar code; the sound is a tone per second on noise.
    """
    folder = Path(tempfile.gettempdir()) / f"avdata-bench-videos-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"v{number:03d}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            print(f"making {path}", flush=True)
            _make_video(path, np.random.default_rng(number))
    return paths


def _make_video(path: Path, rng: np.random.Generator) -> None:
    sound = path.with_suffix(".wav")
    _write_sound(sound, rng)
    unfinished = path.with_suffix(".part.mp4")
    command = [
        ffmpeg_binary(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{WIDTH_PX}x{HEIGHT_PX}", "-r", str(FPS), "-i", "pipe:0", "-i", str(sound),
        "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-g", "150",
        "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", "-movflags", "+faststart",
        str(unfinished),
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        texture = _texture(rng)
        grain = rng.integers(-6, 7, (8, HEIGHT_PX, WIDTH_PX, 1), dtype=np.int16)
        colours, phases = rng.integers(0, 255, (6, 3)), rng.uniform(0, 6.28, (6, 2))
        for number in range(FPS * SECONDS):
            t = number / FPS
            top = round(330 + 300 * np.sin(0.17 * t))
            left = round(190 + 180 * np.cos(0.21 * t))
            image = texture[top : top + HEIGHT_PX, left : left + WIDTH_PX].astype(np.int16)
            for colour, phase in zip(colours, phases, strict=True):
                x, y = (0.5 + 0.45 * np.sin(phase + t)) * (WIDTH_PX - 48, HEIGHT_PX - 70)
                image[20 + int(y) : 68 + int(y), int(x) : int(x) + 48] = colour
            image = np.clip(image + grain[number % 8], 0, 255).astype(np.uint8)
            bits = [(number >> (15 - i)) & 1 for i in range(16)]
            image[:16] = np.repeat(np.where(bits, 235, 16), 40)[None, :, None]
            encoder.stdin.write(image.tobytes())
        encoder.stdin.close()
    if encoder.returncode:
        raise RuntimeError(f"ffmpeg could not make {path}")
    unfinished.replace(path)
    sound.unlink()


def _texture(rng: np.random.Generator, size: int = 1024) -> np.ndarray:
    """Return a 1/f colour texture, uint8 [size, size, 3]."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.fft2(rng.standard_normal((3, size, size))) / frequency**1.3
    planes = np.fft.ifft2(noise).real
    low, high = planes.min((1, 2), keepdims=True), planes.max((1, 2), keepdims=True)
    return np.moveaxis((planes - low) / (high - low) * 255, 0, -1).astype(np.uint8)


def _write_sound(path: Path, rng: np.random.Generator) -> None:
    t = np.arange(SECONDS * SOUND_HZ) / SOUND_HZ
    pitch_hz = 600 + 100 * np.floor(t)
    wavy = 0.4 * np.sin(2 * np.pi * pitch_hz * t) * np.exp(-3 * (t % 1))
    samples = np.int16((wavy + 0.02 * rng.standard_normal(t.size)).clip(-1, 1) * 32767)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SOUND_HZ)
        file.writeframes(np.repeat(samples, 2).tobytes())


def ffmpeg_pass(video: Path, folder: Path, filters: str, window_s: int) -> list[str]:
    """Return the ffmpeg command that writes a video's frames and windows of sound in one pass."""
    name = folder / video.stem
    return [
        ffmpeg_binary(), *FFMPEG, "-i", str(video),
        "-map", "0:v", "-vf", filters, "-q:v", "3", "-threads", "1", f"{name}_%04d.jpg",
        "-map", "0:a", "-ac", "1", "-ar", "16000",
        "-f", "segment", "-segment_time", str(window_s), f"{name}_%d.wav",
    ]  # fmt: skip
