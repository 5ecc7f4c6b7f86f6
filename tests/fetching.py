"""What the tests of fetch share."""

from __future__ import annotations

import subprocess
from pathlib import Path

from avdata.clip import Clip, Source, Status
from avdata.config import FetchSettings
from avdata.media import ffmpeg_binary
from avdata.steps.base import PartContext
from avdata.steps.fetch import FetchStep
from avdata.store import Store

QUICK = FetchSettings(backoff_s=0.01, retries=2, stall_timeout_s=0.5, timeout_s=20, pause_total_s=0)


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg, which must succeed."""
    command = [ffmpeg_binary(), "-nostdin", "-y", "-loglevel", "error", *arguments]
    subprocess.run(command, check=True)


def fetch(run_folder: Path, *urls: str, settings: FetchSettings = QUICK) -> list[Clip]:
    clips = [Clip(key=f"k{i}", url=url, source_id=url) for i, url in enumerate(urls)]
    return FetchStep(settings).run(clips, context(run_folder))


def context(run_folder: Path) -> PartContext:
    return PartContext(Store(str(run_folder)), "work/x.tar", run_folder, seed=0)


def source(clip: Clip) -> Source:
    assert clip.status is Status.ACTIVE, f"{clip.reason}: {clip.detail}"
    assert clip.source is not None
    return clip.source


def stored(run_folder: Path) -> list[Path]:
    return [p for p in run_folder.rglob("*") if p.is_file()]


def content(run_folder: Path, clip: Clip) -> bytes:
    return (run_folder / source(clip).path).read_bytes()


def fetch_one(run_folder: str, url: str) -> None:
    """Fetch in another process."""
    source(fetch(Path(run_folder), url)[0])
