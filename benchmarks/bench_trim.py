"""trim against one bare ffmpeg pass per source that writes the same frames and sound.

    python -m benchmarks.bench_trim [--videos 20] [--rounds 2]

Aims, for 3-s windows with 8 frames of 512 x 512 and 16 kHz sound: CPU at most 1.3 times the
passes; wall time on two cores at most 0.6 times that of the passes one after the other. For 10-s
windows at 5 frames a second, 224 x 224: CPU at most 1.1 times.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.floor import ffmpeg_pass, input_videos
from benchmarks.measure import measure

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "3-s windows, 8 frames 512x512": (
        "fps=8/3,scale=512:512",
        {"mode": "windows", "window_s": 3.0, "frames_per_clip": 8},
    ),
    "10-s windows, 5 fps 224x224": (
        "fps=5,scale=-2:224,crop=224:224",
        {"mode": "windows", "window_s": 10.0, "frame_rate_hz": 5.0, "fit": "crop",
         "width_px": 224, "height_px": 224},
    ),
}  # fmt: skip


def trim(job: dict[str, Any]) -> None:
    """Trim the job's videos into its folder; runs in a process of its own."""
    from avdata.clip import Clip, Source
    from avdata.config import TrimSettings
    from avdata.media import probe
    from avdata.steps.base import PartContext
    from avdata.steps.trim import TrimStep
    from avdata.store import Store

    clips = []
    for path in map(Path, job["videos"]):
        found = dataclasses.asdict(probe(path))
        source = Source(path=str(path), sha256="", bytes=path.stat().st_size, **found)
        clips.append(Clip(key=path.stem, url=str(path), source_id=path.stem, source=source))
    folder = Path(job["folder"])
    part = PartContext(Store(str(folder)), "media.tar", folder, seed=0)
    rows = TrimStep(TrimSettings(audio_format="wav", **job["settings"])).run(clips, part)
    part.finish()
    cut = [row.media for row in rows if row.media is not None]
    frames = sum(len(media.frames) for media in cut)
    print(f"trim wrote {len(cut)} clips with {frames} frames", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        trim(json.loads(options.job))
        return
    videos = input_videos(options.videos)
    for name, (filters, settings) in CASES.items():
        costs: dict[str, Any] = {}
        for _ in range(options.rounds):
            for label in ("ffmpeg", "trim, 1 thread", "trim"):
                folder = Path(tempfile.mkdtemp(prefix="avdata-bench-"))
                threads = 1 if label == "trim, 1 thread" else 0
                window_s = int(settings["window_s"])
                if label == "ffmpeg":
                    commands = [ffmpeg_pass(video, folder, filters, window_s) for video in videos]
                else:
                    job = {
                        "videos": [str(video) for video in videos],
                        "folder": str(folder),
                        "settings": {**settings, "threads": threads},
                    }
                    module = "benchmarks.bench_trim"
                    commands = [[sys.executable, "-m", module, "--job", json.dumps(job)]]
                cost = measure(commands)
                costs[label] = cost.best(costs[label]) if label in costs else cost
                shutil.rmtree(folder)
        floor = costs["ffmpeg"]
        print(f"\n{len(videos)} videos, {name}")
        for label, cost in costs.items():
            print(
                f"  {label:<15} CPU {cost.cpu_s:6.2f} s ({cost.cpu_s / floor.cpu_s:4.2f} x)   "
                f"wall {cost.wall_s:6.2f} s ({cost.wall_s / floor.wall_s:4.2f} x)   "
                f"peak {cost.peak_mb:4.0f} MB"
            )


if __name__ == "__main__":
    main()
