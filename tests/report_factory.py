"""A finished run folder made up from nothing: every status, real sound, real frames."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avdata import audio, frames
from avdata.clip import Clip, Frame, Media, Selection, Source, Status, child_key
from avdata.errors import RETRYABLE, ClipError, Reason
from avdata.media_tar import MediaTar
from avdata.store import Store
from avdata.tables import write_clips

TABLES = ("fetch", "trim", "tag", "select")
RATE_HZ = 16_000
WINDOW_MS = 3000
MEDIA_PATH = "work/trim/part.tar"
LABELS = ("rain", "snow steps", "birds", "ocean")
N_CLASSES = 521

Images = Sequence[NDArray[np.uint8]]
MakeMedia = Callable[[int], tuple[NDArray[np.int16], Images]]


@dataclass
class FakeRun:
    root: Path
    tables: dict[str, list[Clip]]
    summary: dict[str, Any]

    @property
    def store(self) -> Store:
        return Store(str(self.root))

    @property
    def final(self) -> list[Clip]:
        return self.tables["select"]


def synthetic_media(index: int) -> tuple[NDArray[np.int16], Images]:
    """Three seconds of a chirp in noise with one click, and six frames with a moving square."""
    rng = np.random.default_rng(index)
    t = np.arange(RATE_HZ * WINDOW_MS // 1000) / RATE_HZ
    sound = 0.2 * np.sin(2 * np.pi * (300 + 250 * (index % 5) * t) * t)
    sound += 0.03 * rng.standard_normal(len(t)) + 0.6 * (np.abs(t - 1.5) < 0.02)
    pictures = []
    for n in range(6):
        image = np.full((96, 128, 3), (40 + 20 * (index % 8), 90, 140), np.uint8)
        image[30:60, 8 + 18 * n : 32 + 18 * n] = (240, 200, 60)
        pictures.append(image)
    return (np.clip(sound, -1, 0.999) * 32767).astype(np.int16), pictures


def manifest(sources: int) -> list[Clip]:
    """One row per source; the last one was already refused as it was read."""
    rows = [
        Clip(
            key=f"video{n:03d}",
            url=f"https://videos.example/{n}.mp4",
            source_id=f"video{n:03d}",
            dataset="hikes",
            labels=(LABELS[n % len(LABELS)],),
            licence="CC BY 3.0" if n % 2 else "CC BY-SA 4.0",
            attribution=f"Walker {n % 3}",
        )
        for n in range(sources)
    ]
    rows[-1] = rows[-1].failed("manifest", ClipError(Reason.BAD_URL, "line 9: no such scheme"))
    return rows


def make_run(
    root: Path,
    rows: list[Clip],
    *,
    make_media: MakeMedia = synthetic_media,
    windows: int = 3,
    fetch_fails: Iterable[tuple[int, Reason]] = (
        (1, Reason.NOT_FOUND),
        (4, Reason.NOT_FOUND),
        (6, Reason.TIMEOUT),
    ),
    trim_fails: Iterable[int] = (8,),
    quiet: Iterable[int] = (0, 7),
) -> FakeRun:
    """Bring manifest rows through the four steps as the steps would, and write the run folder.

    Row numbers say which source fails to download, which is damaged, and the last window of
    which one is too quiet to be accepted.
    """
    store, fails = Store(str(root)), dict(fetch_fails)
    rows = [replace(row, attributes={"row": str(n)}) for n, row in enumerate(rows)]
    (root / "work/trim").mkdir(parents=True)
    tar = MediaTar(root / MEDIA_PATH)
    fetched = [_fetched(row, fails) for row in rows]
    trimmed = [c for row in fetched for c in _trimmed(row, tar, windows, make_media, trim_fails)]
    tar.close()
    tagged = [_tagged(clip, quiet, windows) for clip in trimmed]
    selected = [_selected(clip) for clip in tagged]
    tables = dict(zip(TABLES, (fetched, trimmed, tagged, selected), strict=True))
    for name, clips in tables.items():
        write_clips(root / f"{name}.parquet", clips)
    summary = summarise(tables, rows_in=len(rows))
    summary["shards"] = write_index(root, selected)
    (root / "summary.json").write_text(json.dumps(summary))
    return FakeRun(Path(store.root), tables, summary)


def summarise(tables: dict[str, list[Clip]], rows_in: int) -> dict[str, Any]:
    steps = []
    for n, (name, clips) in enumerate(tables.items()):
        own = [c for c in clips if c.step == name and c.status in (Status.FAILED, Status.REJECTED)]
        steps.append(
            {
                "name": name,
                "rows_in": rows_in,
                "rows_out": len(clips),
                "by_status": dict(Counter(str(c.status) for c in clips)),
                "by_reason": dict(Counter(c.reason for c in own)),
                "seconds": (41.3, 9.8, 14.2, 0.7)[n],
                "retryable": sum(c.reason in RETRYABLE for c in own),
            }
        )
        rows_in = len(clips)
    return {
        "name": "hikes",
        "seed": 7,
        "version": "0.1.0",
        "manifest": "manifests/hikes.csv",
        "output": "runs/hikes",
        "steps": steps,
        "settings": {"trim": {"mode": "windows", "window_s": 3.0}, "select": {"top_k": 2}},
        "crashed": {"rows": 0, "sources": 0, "examples": []},
        "wall_seconds": 71.4,
    }


def write_index(root: Path, clips: list[Clip]) -> dict[str, Any]:
    """Write shards/index.parquet for the accepted clips and return counts per split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    accepted = [c for c in clips if c.status is Status.ACCEPTED]
    splits = ["val" if c.source_id.endswith("2") else "train" for c in accepted]
    (root / "shards").mkdir()
    index = {
        "key": [c.key for c in accepted],
        "split": splits,
        "shard": [f"{s}-{n % 2:06d}.tar" for n, s in enumerate(splits)],
    }
    pq.write_table(pa.table(index), root / "shards/index.parquet")
    told = {}
    for split in sorted(set(splits)):
        inside = [c for c, s in zip(accepted, splits, strict=True) if s == split]
        shards = {n for n, s in zip(index["shard"], splits, strict=True) if s == split}
        sources = {c.source_id for c in inside}
        told[split] = {
            "clips": len(inside),
            "shards": len(shards),
            "bytes": 90_000 * len(inside),
            "sources": len(sources),
        }
    sums = {name: sum(t[name] for t in told.values()) for name in ("clips", "shards", "bytes")}
    counts = {**sums, "duplicates": 0, "splits": told, "notes": []}
    files = {name: {"bytes": 1000 + n} for n, name in enumerate(sorted(set(index["shard"])))}
    (root / "shards/dataset.json").write_text(json.dumps({**counts, "files": files}))
    return counts


def _row(clip: Clip) -> int:
    return int(clip.attributes["row"])


def _fetched(clip: Clip, fails: dict[int, Reason]) -> Clip:
    if clip.status is not Status.ACTIVE:
        return clip
    if reason := fails.get(_row(clip)):
        return clip.failed("fetch", ClipError(reason, f"{clip.url}: {reason} after 3 tries"))
    source = Source(
        f"media/{clip.key}.mp4", "0" * 64, 2**20, 9000, 640, 360, 30.0, 0, "h264", "aac", 44100, 2
    )
    return clip.after("fetch", source=source)


def _trimmed(
    clip: Clip, tar: MediaTar, windows: int, make_media: MakeMedia, fails: Iterable[int]
) -> list[Clip]:
    if clip.status is not Status.ACTIVE:
        return [clip]
    if _row(clip) in fails:
        return [clip.failed("trim", ClipError(Reason.CORRUPT, "invalid data at 2.1 s"))]
    children = []
    for n in range(windows):
        start_ms = n * WINDOW_MS
        child = replace(
            clip,
            key=child_key(clip.key, start_ms),
            start_ms=start_ms,
            end_ms=start_ms + WINDOW_MS,
            attributes={**clip.attributes, "window": str(n)},
        )
        media = cut(tar, child.key, *make_media(windows * _row(clip) + n))
        children.append(child.after("trim", media=media))
    return [clip.after("trim", status=Status.EXPANDED), *children]


def cut(tar: MediaTar, key: str, samples: NDArray[np.int16], images: Images) -> Media:
    """Write sound and frames as trim does and return where they lie."""
    sound = tar.add(f"{key}.flac", audio.encode(samples, RATE_HZ, "flac"))
    duration_s = len(samples) / RATE_HZ
    candidates = []
    for n, image in enumerate(images):
        member = tar.add(f"{key}.{n}.jpg", frames.encode_jpeg(image, 90))
        time_s = (n + 0.5) / len(images) * duration_s
        candidates.append(Frame(time_s, member.offset, member.bytes))
    height, width = images[0].shape[:2] if images else (0, 0)
    return Media(
        path=MEDIA_PATH,
        audio=sound,
        audio_format="flac",
        sample_rate_hz=RATE_HZ,
        n_samples=len(samples),
        width_px=width,
        height_px=height,
        frames=tuple(candidates),
    )


def _tagged(clip: Clip, quiet: Iterable[int], windows: int) -> Clip:
    if clip.status is not Status.ACTIVE:
        return clip
    is_quiet = _row(clip) in quiet and clip.attributes["window"] == str(windows - 1)
    rng = np.random.default_rng(_row(clip))
    scores = np.zeros(N_CLASSES, np.float32)
    loud = LABELS.index(clip.labels[0]) if clip.labels and clip.labels[0] in LABELS else 0
    strongest = (283, 48, 106, 294)[loud]
    scores[[strongest, 277, 0, 494]] = (0.81, 0.42, 0.12, 0.05)
    measures = {
        "loudness_lufs": -60.0 if is_quiet else float(-30 + 12 * rng.random()),
        "silence_share": 0.9 if is_quiet else float(0.1 * rng.random()),
    }
    scores_tuple = tuple(scores.tolist())
    return clip.after(
        "tag", measures=measures, class_scores=scores_tuple, class_scores_max=scores_tuple
    )


def _selected(clip: Clip) -> Clip:
    if clip.status is not Status.ACTIVE:
        return clip
    loudness = clip.measures["loudness_lufs"]
    if loudness < -50:
        detail = f"select.require.loudness_lufs: {loudness:g} is below the required -50"
        return clip.rejected("select", Reason.BELOW_MIN, detail)
    count = len(clip.media.frames) if clip.media else 0
    if not count:
        return clip.after("select", status=Status.ACCEPTED)
    scores = np.random.default_rng(_row(clip)).random(count).astype(np.float32)
    picks = tuple(int(i) for i in np.argsort(-scores)[: min(2, count)])
    y, x = np.mgrid[0:14, 0:14]
    blob = np.exp(-((y - 6) ** 2 + (x - 2 - 2 * picks[0]) ** 2) / 9).ravel()
    selection = Selection(
        "localizer", tuple(scores.tolist()), picks, (tuple(blob.tolist()),) * len(picks), 14, 14
    )
    return clip.after("select", status=Status.ACCEPTED, selection=selection)
