"""The demo set: videos, their ground truth, and a manifest with some rows that must fail."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from avdata.clip import Clip
from avdata.cores import cores
from avdata.demo.server import DEFAULT_PORT, HOST
from avdata.demo.timeline import KINDS, Timeline, make_faulty, make_timeline
from avdata.manifest import write_manifest
from avdata.store import Store

MANIFEST = "manifest.csv"
NOT_A_VIDEO = "page_00.mp4"
ABSENT = "gone_00.mp4"

Progress = Callable[[int, int, str], None]
"""Called with the number of finished videos, the number of all, and the name of the last."""


def make_demo(
    folder: Path,
    *,
    seed: int = 0,
    videos_per_kind: int = 2,
    workers: int | None = None,
    port: int = DEFAULT_PORT,
    progress: Progress | None = None,
) -> Path:
    """Make the demo videos in `folder` and return the path of their manifest.

    Writes NAME.mp4 (h264 + AAC, 320x240, 12 fps, 20 to 24 s) and NAME.json (ground truth) for
    each video, and manifest.csv whose URLs point to `serve(folder, port)`. What is there and
    complete is kept; the same seed gives the same bytes, whatever the number of workers.
    """
    if videos_per_kind < 1:
        raise ValueError(f"videos_per_kind must be at least 1, got {videos_per_kind}")
    store = Store(os.path.abspath(folder))
    good = [make_timeline(kind, n, seed) for n in range(videos_per_kind) for kind in KINDS]
    timelines = [*good, *make_faulty(seed)]
    wanted = [timeline for timeline in timelines if not _is_made(store, timeline)]
    done = len(timelines) - len(wanted)
    for name in _made(store, wanted, workers or cores()):
        done += 1
        if progress:
            progress(done, len(timelines), name)
    store.write_bytes(NOT_A_VIDEO, b"<!doctype html><title>Sorry</title><p>No such video.</p>\n")
    manifest = os.path.join(store.root, MANIFEST)
    write_manifest(manifest, _rows(timelines, videos_per_kind, f"http://{HOST}:{port}"))
    return Path(manifest)


def _truth_text(timeline: Timeline) -> bytes:
    return (json.dumps(timeline.truth(), indent=1) + "\n").encode()


def _is_made(store: Store, timeline: Timeline) -> bool:
    """A video is complete when it is there beside the ground truth that it would have now."""
    truth = f"{timeline.name}.json"
    return (
        store.exists(f"{timeline.name}.mp4")
        and store.exists(truth)
        and store.read_bytes(truth) == _truth_text(timeline)
    )


def _made(store: Store, timelines: list[Timeline], workers: int) -> Iterator[str]:
    """Make the videos and yield their names as they are finished."""
    if min(workers, len(timelines)) <= 1:
        for timeline in timelines:
            yield _make(store, timeline)
        return
    # Spawned, not forked: the caller may run threads, such as the server of these very files.
    with ProcessPoolExecutor(min(workers, len(timelines)), get_context("spawn")) as pool:
        futures = [pool.submit(_make, store, timeline) for timeline in timelines]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make(store: Store, timeline: Timeline) -> str:
    from avdata.demo.encode import encode

    store.delete(f"{timeline.name}.mp4")
    store.write_bytes(f"{timeline.name}.json", _truth_text(timeline))
    with store.writing(f"{timeline.name}.mp4") as temporary:
        encode(timeline, temporary)
    return timeline.name


def _rows(timelines: list[Timeline], videos_per_kind: int, base_url: str) -> Iterator[Clip]:
    """Yield one row per video, and one each for an address that is gone and a page of HTML.

    The last third of the videos of each kind, at least one of two or more, is the test split.
    """
    n_held_out = max(1, videos_per_kind // 3) if videos_per_kind > 1 else 0
    last = tuple(f"_{n:02d}" for n in range(videos_per_kind - n_held_out, videos_per_kind))
    for timeline in timelines:
        held_out = timeline.name.endswith(last)
        yield _row(
            timeline.name,
            f"{base_url}/{timeline.name}.mp4",
            timeline.kind,
            split="test" if held_out else "train",
            events_ms=tuple(round(1000 * event.t_s) for event in timeline.events),
        )
    for name, kind in ((ABSENT, "ocean"), (NOT_A_VIDEO, "birds")):
        yield _row(name.removesuffix(".mp4"), f"{base_url}/{name}", kind)


def _row(key: str, url: str, kind: str, split: str = "", events_ms: tuple[int, ...] = ()) -> Clip:
    return Clip(
        key=key,
        url=url,
        source_id=hashlib.blake2b(f"avdata/{key}".encode(), digest_size=6).hexdigest(),
        dataset="demo",
        split=split,
        labels=(kind,),
        events_ms=events_ms,
        licence="CC0-1.0",
        attribution="synthesised by avdata",
    )
