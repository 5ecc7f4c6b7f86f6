"""A site to fetch from, and a folder to fetch into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fetching import ffmpeg
from tests.http_server import HttpServer


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one video as mp4, HLS and DASH, in two sizes, and without sound or pictures."""
    folder = tmp_path_factory.mktemp("site")
    video = str(folder / "v.mp4")
    inputs = ("-f", "lavfi", "-i", "testsrc=s=160x120:r=10:d=6", "-f", "lavfi", "-i", "sine=d=6")
    ffmpeg(*inputs, "-g", "20", "-pix_fmt", "yuv420p", "-c:a", "aac", video)
    ffmpeg("-i", video, "-c", "copy", "-an", str(folder / "mute.mp4"))
    ffmpeg("-i", video, "-c", "copy", "-vn", str(folder / "sound.m4a"))
    hls = ("-hls_time", "2", "-hls_list_size", "0")
    ffmpeg("-i", video, "-c", "copy", *hls, str(folder / "low.m3u8"))
    ffmpeg("-i", video, "-vf", "scale=320:240", "-g", "20", *hls, str(folder / "high.m3u8"))
    (folder / "master.m3u8").write_text(
        "#EXTM3U\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=200000,RESOLUTION=160x120\nlow.m3u8\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=320x240\nhigh.m3u8\n"
    )
    ffmpeg("-i", video, "-c", "copy", "-seg_duration", "2", "-f", "dash", str(folder / "d.mpd"))
    return folder


@pytest.fixture
def server(site: Path) -> Iterator[HttpServer]:
    with HttpServer(site) as server:
        yield server


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
