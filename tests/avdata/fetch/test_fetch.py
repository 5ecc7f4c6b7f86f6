"""FetchStep brings every source once, whole, measured and under a safe name."""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import pytest

from avdata.clip import Clip, Status
from avdata.config import FetchSettings
from avdata.errors import Reason, SettingsError
from avdata.steps.base import PartContext
from avdata.steps.fetch import FetchStep
from avdata.store import Store
from avdata.strict import build
from tests.fetching import QUICK, content, context, fetch, fetch_one, source
from tests.http_server import HttpServer, Reply


def test_measures_what_it_fetched(server: HttpServer, site: Path, run_folder: Path) -> None:
    clip = fetch(run_folder, server.url("v.mp4"))[0]
    found = source(clip)
    data = (site / "v.mp4").read_bytes()
    assert content(run_folder, clip) == data
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.bytes == len(data)
    assert found.path.startswith("media/")
    assert found.path.endswith(".mp4")
    assert (found.width_px, found.height_px, found.fps) == (160, 120, 10.0)
    assert (found.video_codec, found.audio_codec, found.audio_channels) == ("h264", "aac", 1)
    assert found.duration_ms == pytest.approx(6000, abs=60)
    assert clip.step == "fetch"


def test_one_download_per_source_whatever_asks(server: HttpServer, run_folder: Path) -> None:
    url = server.url("v.mp4")
    clips = fetch(run_folder, url, url, url.replace("http:", "HTTP:") + "#t=3")
    assert len({source(c).path for c in clips}) == 1
    again = fetch(run_folder, server.url("low0.ts"), url)  # another manifest, a row on top
    assert source(again[1]) == source(clips[0])
    assert server.hits("/v.mp4") == 1


def test_order_and_other_clips_are_kept(server: HttpServer, run_folder: Path) -> None:
    step = FetchStep(QUICK)
    clips = [
        Clip(key="a", url=server.url("v.mp4"), source_id="a"),
        Clip(key="b", url=server.url("v.mp4"), source_id="b", status=Status.FAILED, reason="x"),
        Clip(key="c", url=server.url("none.mp4"), source_id="c"),
        Clip(key="d", url=server.url("v.mp4"), source_id="a"),
        Clip(key="e", url=server.url("none.mp4"), source_id="c"),
    ]
    out = step.run(clips, context(run_folder))
    assert [c.key for c in out] == list("abcde")
    assert out[1] is clips[1]
    assert source(out[0]) == source(out[3])
    assert [c.reason for c in out] == ["", "x", Reason.NOT_FOUND, "", Reason.NOT_FOUND]


def test_odd_names(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    names = ["-y.mp4", "a b ü 雨.mp4", 'it\'s "q".mp4', "%2e%2e.mp4", "..%2fup.mp4"]
    urls = [server.add(name, Reply(data)) for name in names]
    evil = {"Content-Disposition": 'attachment; filename="../../../evil.mp4"'}
    urls.append(server.add("cd.mp4", Reply(data, headers=evil)))
    urls.append(server.url("v.mp4") + "?sig=1&x=../..")
    for clip in fetch(run_folder, *urls):
        assert content(run_folder, clip) == data
    unquoted = f"http://127.0.0.1:{server.port}/a b ü 雨.mp4"
    assert content(run_folder, fetch(run_folder, unquoted)[0]) == data
    assert not list(run_folder.parent.rglob("evil*"))


@pytest.mark.parametrize("kind", ["video/mp4", "application/octet-stream"])
def test_direct_files_without_a_suffix(
    server: HttpServer, site: Path, run_folder: Path, kind: str
) -> None:
    data = (site / "v.mp4").read_bytes()
    clip = fetch(run_folder, server.add("watch", Reply(data, type=kind)))[0]
    assert content(run_folder, clip) == data
    assert server.hits("watch") == 1


def test_local_link_and_copy(site: Path, run_folder: Path, tmp_path: Path) -> None:
    odd = tmp_path / "- ü 雨 'x'.mp4"
    odd.write_bytes((site / "v.mp4").read_bytes())
    linked = fetch(run_folder, str(odd))[0]
    assert os.path.samefile(run_folder / source(linked).path, odd)
    copied = fetch(tmp_path / "run2", str(odd), settings=replace(QUICK, local="copy"))[0]
    assert not os.path.samefile(tmp_path / "run2" / source(copied).path, odd)
    assert source(copied) == source(linked)


def test_local_file_that_changed_is_seen(site: Path, run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes((site / "v.mp4").read_bytes())
    first = source(fetch(run_folder, str(path))[0])
    path.unlink()
    path.write_bytes((site / "mute.mp4").read_bytes())
    relaxed = replace(QUICK, require_audio=False)
    assert source(fetch(run_folder, str(path), settings=relaxed)[0]).sha256 != first.sha256


def test_remote_run_folder(server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store("memory://fetch-test")
    clips = [Clip(key="k", url=server.url("v.mp4"), source_id="k")]
    part = PartContext(store, "work/x.tar", tmp_path, seed=0)
    for _ in range(2):
        found = source(FetchStep(QUICK).run(clips, part)[0])
        assert hashlib.sha256(store.read_bytes(found.path)).hexdigest() == found.sha256
    assert server.hits("v.mp4") == 1
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_two_processes_fetch_once(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    url = server.add("x.mp4", Reply(data, chunk=len(data) // 5, pause_s=0.1))
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=fetch_one, args=(str(run_folder), url)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0]
    assert server.hits("x.mp4") == 1


def test_killed_process_is_resumed(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    slow = Reply(data, etag='"1"', chunk=8192, pause_s=0.2)
    url = server.add("x.mp4", [slow, Reply(data, etag='"1"')])
    code = "import sys; from tests.fetching import fetch_one as f; f(*sys.argv[1:])"
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", code, str(run_folder), url], cwd=root)
    partial = run_folder / "media" / ".partial"
    deadline = time.monotonic() + 30
    while not any(p.name == "body" and p.stat().st_size for p in partial.rglob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    clip = fetch(run_folder, url)[0]
    assert content(run_folder, clip) == data
    assert source(clip).sha256 == hashlib.sha256(data).hexdigest()
    assert server.requests[-1].status == 206
    assert not list(partial.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("downloads", 0),
        ("timeout_s", 0.0),
        ("stall_timeout_s", math.inf),
        ("retries", -1),
        ("sleep_s", math.nan),
        ("rate_limit_bytes_s", 0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be .* got {value}"):
        build(FetchSettings, {name: value}, "fetch")


def test_a_cookies_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        FetchStep(replace(QUICK, cookies_file=str(tmp_path / "none")))


def test_fingerprint_ignores_what_does_not_change_the_output() -> None:
    assert FetchStep(QUICK).fingerprint() == FetchStep(FetchSettings()).fingerprint()
    other = replace(QUICK, max_height_px=720)
    assert FetchStep(QUICK).fingerprint() != FetchStep(other).fingerprint()


def test_real_clips(shared_data: Path, run_folder: Path) -> None:
    files = sorted((shared_data / "video").glob("*/*.mp4"))
    relaxed = replace(QUICK, require_audio=False, require_video=False)
    for clip, path in zip(
        fetch(run_folder, *map(str, files), settings=relaxed), files, strict=True
    ):
        if clip.status is Status.ACTIVE:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                assert source(clip).video_codec == stream.codec_context.codec.name
        else:
            assert "edge_cases" in path.parts, f"{path.name}: {clip.reason} {clip.detail}"
