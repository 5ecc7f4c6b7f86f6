"""Random damage: no crash, no hang, no exception; every row has media or a reason."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import fuzz_trim
from tests.channel_factory import in_own_order
from tests.media_factory import make_video, noise_track


def fuzz(path: Path, count: int, **settings: Any) -> list[dict[str, Any]]:
    """Return what became of `count` damaged copies of a video."""
    report = path.with_name("report.jsonl")
    # A process of its own: a crash in a decoder shows as its exit code.
    process = multiprocessing.get_context("fork").Process(
        target=fuzz_trim.fuzz, args=(path, 7, count, report), kwargs=settings
    )
    process.start()
    process.join(timeout=240)
    if process.is_alive():
        process.kill()
        pytest.fail("a damaged file hangs")
    assert process.exitcode == 0
    results = [json.loads(line) for line in report.read_text().splitlines()]
    assert len(results) == count
    for result in results:
        for status, reason in result["rows"]:
            assert status in ("active", "expanded", "failed")
            assert bool(reason) == (status == "failed")
    return results


@pytest.mark.parametrize(
    ("suffix", "count", "video", "settings"),
    [
        (".mp4", 200, {"options": {"movflags": "+faststart"}}, {}),
        (".mp4", 60, {"options": {"movflags": "+faststart"}}, {"decoder": "decord"}),
        (".mp4", 16, {}, {"video": True, "width_px": None, "height_px": None}),
        (".mkv", 60, {}, {"frame_rate_hz": 3}),
        (".ts", 60, {}, {"short_clips": "keep"}),
        (".webm", 40, {"video_codec": "libvpx-vp9", "sound_codec": "libopus"}, {}),
    ],
)
def test_damaged_files(
    tmp_path: Path, suffix: str, count: int, video: dict[str, Any], settings: dict[str, Any]
) -> None:
    path = make_video(
        tmp_path / f"whole{suffix}", seconds=6, fps=10, gop=10, width_px=160, height_px=90,
        sound=noise_track(6, 16000), **video,
    )  # fmt: skip
    results = fuzz(path, count, **settings)
    statuses = Counter(status for result in results for status, _ in result["rows"])
    assert statuses["active"] > count / 2  # damage costs the windows it hits, not all
    assert statuses["failed"] > count / 10


def test_damaged_channel_layouts(tmp_path: Path) -> None:
    fuzz(in_own_order(tmp_path, "7.1"), 60)
