"""A run folder of tiny clips whose truth is known: when the source is in view, and where.

Each kind has a pitch and a colour. Its colour fills one half of the frames in which the source is
in view; all else is grey noise.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from avdata.clip import Clip, Selection, Source, Status
from avdata.config import ShardSettings
from avdata.tables import write_clips
from tests.clip_factory import RATE_HZ, ClipFactory
from tests.shard_factory import pack

KINDS = {"low": (400, (210, 60, 50)), "high": (2400, (60, 70, 210))}
HALVES = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0))
SIDE_PX = 32
FRAMES, SHOWN = 6, 2
LENGTH_S = 2.0
MIDDLE = FRAMES // 2  # at 1.0 s


def make_run(
    folder: Path,
    *,
    train: int = 16,
    test: int = 8,
    labels: bool = True,
    tags: bool = True,
    frames: str = "all",
    rate_hz: int = RATE_HZ,
) -> Path:
    """Write clips, their truth, the table of select and shards; return the folder.

    train, test: clips of each split, one per video.
    """
    factory = ClipFactory(folder)
    (folder / "truth").mkdir()
    clips = [
        _clip(factory, n, "train" if n < train else "test", labels, tags, rate_hz)
        for n in range(train + test)
    ]
    factory.part()
    write_clips(folder / "select.parquet", clips)
    settings = ShardSettings(frames=frames, splits={"train": 1.0})
    pack(factory.store, ["select.parquet"], settings)
    return folder


def _clip(factory: ClipFactory, n: int, split: str, labels: bool, tags: bool, rate_hz: int) -> Clip:
    rng = np.random.default_rng(n)
    kind = list(KINDS)[n % len(KINDS)]
    box = HALVES[int(rng.integers(4))]
    first = int(rng.integers(FRAMES - SHOWN + 1))
    shown = range(first, first + SHOWN)
    times_s = [i * LENGTH_S / FRAMES for i in range(FRAMES)]
    _write_truth(factory, n, times_s[first], times_s[first] + SHOWN * LENGTH_S / FRAMES)
    t = np.arange(round(LENGTH_S * rate_hz)) / rate_hz
    sound = 0.3 * np.sin(2 * np.pi * KINDS[kind][0] * t) + rng.normal(0, 0.01, t.size)
    scores = np.zeros(521)
    scores[0 if kind == "low" else 494] = 0.6  # "Speech" and "Silence" in YAMNet's list
    return factory.clip(
        f"clip{n:03d}",
        [_picture(rng, kind, box if i in shown else None) for i in range(FRAMES)],
        times_s,
        sound,
        rate_hz,
        url=f"http://127.0.0.1/video{n:03d}.mp4",
        source_id=f"video{n:03d}",
        start_ms=1000,
        end_ms=1000 + round(1000 * LENGTH_S),
        split=split,
        labels=(kind,) if labels else (),
        attributes={"bbox": json.dumps([box])} if MIDDLE in shown else {},
        status=Status.ACCEPTED,
        source=_source(n),
        class_scores=tuple(scores) if tags else (),
        selection=Selection("mid", tuple(-abs(t - 1.0) for t in times_s), (MIDDLE,)),
    )


def _write_truth(factory: ClipFactory, n: int, start_s: float, end_s: float) -> None:
    seen = {"start_s": round(1 + start_s, 3), "end_s": round(1 + end_s, 3)}
    factory.store.write_bytes(f"truth/video{n:03d}.json", json.dumps({"visible": [seen]}).encode())


def _picture(
    rng: np.random.Generator, kind: str, box: tuple[float, float, float, float] | None
) -> np.ndarray:
    grey = rng.integers(60, 190) + rng.normal(0, 12, (SIDE_PX, SIDE_PX, 1))
    image = np.repeat(grey, 3, axis=2)
    if box is not None:
        left, top, right, bottom = (round(share * SIDE_PX) for share in box)
        noise = rng.normal(0, 12, (bottom - top, right - left, 1))
        image[top:bottom, left:right] = np.array(KINDS[kind][1]) + noise
    return image.clip(0, 255).astype(np.uint8)


def _source(n: int) -> Source:
    return Source(
        path=f"media/{n}.mp4",
        sha256=f"{n + 1:064x}",
        bytes=1,
        duration_ms=9000,
        width_px=SIDE_PX,
        height_px=SIDE_PX,
        fps=12.0,
        rotation_deg=0,
        video_codec="h264",
        audio_codec="aac",
        audio_rate_hz=48000,
        audio_channels=1,
    )
