"""fetch → shards of 20 videos served on this machine, against one bare ffmpeg pass per video.

Every video gives three 10-s clips: frames at 224 px and 5 per second, sound at 16 kHz. The floor
decodes each local file once and writes the same frames and sounds, one file after the other on one
core (on several, ffmpeg filters beside its decoder), and neither downloads, measures nor packs.
Afterwards the cuts are read back from the shards: bar code and tones.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from avdata.audio import decode
from avdata.demo import serve
from avdata.frames import decode_jpeg
from benchmarks.floor import FPS, ffmpeg_pass, input_videos
from benchmarks.measure import measure

VIDEOS, CLIPS, CLIP_S = 20, 3, 10
ONE_CORE = ("taskset", "-c", str(min(os.sched_getaffinity(0))))
ROUNDS = 2
SETTINGS = [
    "steps.fetch.via=http",
    "steps.trim.frames_per_clip=null",
    "steps.trim.frame_rate_hz=5",
    "steps.trim.audio_format=wav",
    "steps.tag.taggers=[]",
    "steps.shard.frames=all",
]
CROPPED = ["steps.trim.width_px=224", "steps.trim.height_px=224", "steps.trim.fit=crop"]
WHOLE = ["steps.trim.width_px=null", "steps.trim.height_px=null"]


def command(
    manifest: Path, output: Path, sets: list[str], *options: str, step: str = "shard"
) -> list[str]:
    overrides = [part for value in [*SETTINGS, *sets] for part in ("--set", value)]
    arguments = [step, str(manifest), "-o", str(output), *overrides, *options]
    return [sys.executable, "-m", "avdata.cli", *arguments]


def write_manifest(
    path: Path, base: str, videos: list[Path], starts_ms: list[int], ms: int
) -> None:
    rows = [f"{base}/{v.name},{start},{start + ms}" for v in videos for start in starts_ms]
    path.write_text("\n".join(["url,start_ms,end_ms", *rows]) + "\n")


def cut_errors(shards: Path) -> tuple[int, float]:
    """Return the largest error of the frames read by bar code, and of the seconds heard."""
    frame_error, sound_error_s = 0, 0.0
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}
        for name, content in members.items():
            if not name.endswith(".json"):
                continue
            start_s = json.loads(content)["start_ms"] / 1000
            key = name.removesuffix(".json")
            frames = sorted(n for n in members if n.startswith(f"{key}.") and n.endswith(".jpg"))
            for index, frame in enumerate(frames):
                wanted = int((start_s + index / 5) * FPS + 1e-6)
                frame_error = max(frame_error, abs(_bar_code(members[frame]) - wanted))
            samples, rate_hz = decode(members[f"{key}.wav"])
            # Each second of the sources is a struck tone of its own pitch: find its onset.
            first_s = int(start_s) + 1
            sound_error_s = max(sound_error_s, abs(_onset_s(samples, rate_hz, first_s - start_s)))
    return frame_error, sound_error_s


def _bar_code(jpeg: bytes) -> int:
    cells = decode_jpeg(jpeg)[4:12].mean(axis=(0, 2)).reshape(16, -1)
    return int("".join("1" if cell > 126 else "0" for cell in cells[:, 10:30].mean(axis=1)), 2)


def _onset_s(samples: np.ndarray, rate_hz: int, wanted_s: float) -> float:
    """Return how far from `wanted_s` the loudest jump of level lies, in seconds."""
    around = slice(round((wanted_s - 0.2) * rate_hz), round((wanted_s + 0.2) * rate_hz))
    level = np.abs(samples[around].astype(float))
    width = rate_hz // 200
    smooth = np.convolve(level, np.ones(width) / width, "valid")
    jump = smooth[width:] - smooth[:-width]
    return (int(jump.argmax()) + width) / rate_hz - 0.2


def main() -> None:
    videos = input_videos(VIDEOS)
    with tempfile.TemporaryDirectory() as scratch, serve(videos[0].parent) as base:
        folder = Path(scratch)
        write_manifest(
            folder / "m.csv", base, videos, [i * 1000 * CLIP_S for i in range(CLIPS)], 1000 * CLIP_S
        )
        floor = ours = None
        for round_ in range(ROUNDS):
            frames = folder / f"floor{round_}"
            frames.mkdir()
            filters = "fps=5,scale=-2:224,crop=224:224"
            bare = measure([[*ONE_CORE, *ffmpeg_pass(v, frames, filters, CLIP_S)] for v in videos])
            floor = bare if floor is None else floor.best(bare)
            mine = measure([command(folder / "m.csv", folder / f"run{round_}", CROPPED)])
            ours = mine if ours is None else ours.best(mine)
        assert floor is not None
        assert ours is not None
        print(f"bare ffmpeg     {floor.cpu_s:6.1f} CPU s  {floor.wall_s:6.1f} s wall")
        print(f"fetch → shards  {ours.cpu_s:6.1f} CPU s  {ours.wall_s:6.1f} s wall")
        ratios = ours.cpu_s / floor.cpu_s, ours.wall_s / floor.wall_s
        print(f"CPU ratio       {ratios[0]:6.2f}         (aim: at most 1.15)")
        print(f"wall ratio      {ratios[1]:6.2f}         (aim: at most 0.65, on 2 cores)")
        print(f"peak memory     {ours.peak_mb:6.0f} MB      (aim: under 300), all processes")
        write_manifest(folder / "odd.csv", base, videos[:5], [1500, 7300, 13100, 21700], 3000)
        measure([command(folder / "odd.csv", folder / "odd", WHOLE)])
        frame_error, sound_error_s = cut_errors(folder / "odd" / "shards")
        print(f"cuts            {frame_error} frames, {1000 * sound_error_s:.1f} ms of sound off")


if __name__ == "__main__":
    main()
