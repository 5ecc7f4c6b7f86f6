"""Playlists, pages and sections, by yt-dlp from a real server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from avdata.clip import Clip
from avdata.steps.fetch import FetchStep
from tests.fetching import QUICK, content, context, fetch, ffmpeg, source
from tests.http_server import HttpServer, Reply


def test_hls_by_height(server: HttpServer, run_folder: Path) -> None:
    low = replace(QUICK, max_height_px=200)
    assert source(fetch(run_folder, server.url("master.m3u8"), settings=low)[0]).height_px == 120
    high = replace(QUICK, max_height_px=None)
    found = source(fetch(run_folder, server.url("master.m3u8"), settings=high)[0])
    assert found.height_px == 240
    assert found.duration_ms == pytest.approx(6000, abs=150)
    assert found.audio_codec == "aac"


def test_smallest_where_all_are_higher(server: HttpServer, run_folder: Path) -> None:
    tiny = replace(QUICK, max_height_px=100)
    assert source(fetch(run_folder, server.url("master.m3u8"), settings=tiny)[0]).height_px == 120


def test_dash_is_merged(server: HttpServer, run_folder: Path) -> None:
    found = source(fetch(run_folder, server.url("d.mpd"))[0])
    assert (found.video_codec, found.audio_codec) == ("h264", "aac")
    assert found.duration_ms == pytest.approx(6000, abs=100)


def test_page_with_a_player(server: HttpServer, run_folder: Path) -> None:
    page = b"<html><body><video src='/v.mp4' type='video/mp4'></video></body></html>"
    clip = fetch(run_folder, server.add("page", Reply(page, type="text/html")))[0]
    assert source(clip).duration_ms == pytest.approx(6000, abs=60)


def brightness_and_loudness(path: Path, t_s: float) -> tuple[float, float]:
    """Mean luma of the picture shown at `t_s`, and the sound's mean square around it."""
    luma, square = 0.0, 0.0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time <= t_s:
                luma = float(frame.to_ndarray(format="gray").mean())
    with av.open(str(path)) as container:
        for sound in container.decode(audio=0):
            if abs(sound.time - t_s) < 0.05:
                square = max(square, float(np.square(sound.to_ndarray()).mean()))
    return luma, square


def test_section_keeps_the_times_of_the_whole(run_folder: Path, tmp_path: Path) -> None:
    # The picture turns white and the tone sounds during the odd seconds only.
    folder = tmp_path / "blink"
    folder.mkdir()
    ffmpeg(
        *("-f", "lavfi", "-i", "color=black:s=64x64:r=10:d=30,geq=lum='255*mod(floor(T),2)'"),
        *("-f", "lavfi", "-i", "aevalsrc='sin(2764*t)*mod(floor(t),2)':d=30"),
        *("-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac", "-hls_time", "5"),
        *("-hls_list_size", "0", str(folder / "b.m3u8")),
    )
    with HttpServer(folder) as server:
        spans_ms = [(6000, 7000), (7000, 8000)]
        clips = [
            Clip(key=f"k{i}", url=server.url("b.m3u8"), source_id="b", start_ms=a, end_ms=b)
            for i, (a, b) in enumerate(spans_ms)
        ]
        step = FetchStep(replace(QUICK, sections=True, stall_timeout_s=5))
        found = {source(c).path for c in step.run(clips, context(run_folder))}
        assert server.hits("b4.ts") + server.hits("b5.ts") == 0  # not the whole
    assert len(found) == 1
    path = run_folder / found.pop()
    for t_s, on in ((6.05, False), (6.45, False), (7.05, True), (7.45, True)):
        luma, square = brightness_and_loudness(path, t_s)
        assert (luma > 128) is on, (t_s, luma)
        if t_s % 1 > 0.1:  # AAC smears the edges
            assert (square > 0.1) is on, (t_s, square)


def test_ytdlp_resumes_and_retries(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    whole = Reply(data, type="video/mp4")
    cut = Reply(data, type="video/mp4", drop_after=30_000)
    url = server.add("watch", [whole, Reply(status=503), cut, whole])
    clip = fetch(run_folder, url, settings=replace(QUICK, via="ytdlp"))[0]
    assert content(run_folder, clip) == data
    assert server.requests[-1].status == 206
