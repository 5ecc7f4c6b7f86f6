"""Servers that fail in every way a server can, and files that are not what they should be."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from avdata.errors import Reason
from tests.fetching import QUICK, content, fetch, source, stored
from tests.http_server import HttpServer, Reply


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.LOGIN_REQUIRED),
        (403, Reason.FORBIDDEN),
        (404, Reason.NOT_FOUND),
        (410, Reason.REMOVED),
        (418, Reason.HTTP_ERROR),
        (429, Reason.RATE_LIMITED),
        (451, Reason.GEO_BLOCKED),
        (500, Reason.SERVER_ERROR),
        (503, Reason.SERVER_ERROR),
    ],
)
def test_status(server: HttpServer, run_folder: Path, status: int, reason: Reason) -> None:
    direct = server.add("x.mp4", Reply(b"no", status=status))
    page = server.add("watch", Reply(b"no", status=status))
    assert [c.reason for c in fetch(run_folder, direct)] == [reason]
    assert server.hits("x.mp4") == (1 + QUICK.retries if reason is Reason.SERVER_ERROR else 1)
    by_ytdlp = replace(QUICK, via="ytdlp", retries=0)
    assert [c.reason for c in fetch(run_folder, page, settings=by_ytdlp)] == [reason]
    assert not list(run_folder.rglob("*.mp4"))


def test_flaky_server_succeeds(server: HttpServer, site: Path, run_folder: Path) -> None:
    good = Reply((site / "v.mp4").read_bytes())
    url = server.add("x.mp4", [Reply(status=503), Reply(status=503), good])
    source(fetch(run_folder, url)[0])
    assert [r.status for r in server.requests] == [503, 503, 200]


def test_retry_after_is_honoured(server: HttpServer, site: Path, run_folder: Path) -> None:
    good = Reply((site / "v.mp4").read_bytes())
    url = server.add("x.mp4", [Reply(status=429, headers={"Retry-After": "1"}), good])
    started = time.monotonic()
    waiting = replace(QUICK, pause_s=0.01, pause_total_s=60)
    source(fetch(run_folder, url, settings=waiting)[0])
    assert time.monotonic() - started >= 1.0
    url = server.add("y.mp4", [Reply(status=429, headers={"Retry-After": "3600"}), good])
    assert fetch(run_folder, url, settings=waiting)[0].reason == Reason.RATE_LIMITED
    assert server.hits("y.mp4") == 1


def test_failures_are_not_archived(server: HttpServer, site: Path, run_folder: Path) -> None:
    good = Reply((site / "v.mp4").read_bytes())
    url = server.add("x.mp4", [Reply(status=404), good])
    assert fetch(run_folder, url)[0].reason == Reason.NOT_FOUND
    source(fetch(run_folder, url)[0])


def test_html_in_place_of_a_video(server: HttpServer, run_folder: Path) -> None:
    page = b"<!DOCTYPE html>\n<html><head><title>Please\n log in</title></head></html>"
    clips = fetch(
        run_folder,
        server.add("x.mp4", Reply(page, type="text/html")),
        server.add("y.mp4", Reply(page, type="video/mp4")),
    )
    for clip in clips:
        assert clip.reason == Reason.NOT_MEDIA
        assert "HTML page" in clip.detail
        assert "log in" not in clip.detail  # nothing of what a server sends stands in a table


def test_page_without_video(server: HttpServer, run_folder: Path) -> None:
    url = server.add("page", Reply(b"<html><title>Hi</title></html>", type="text/html"))
    assert fetch(run_folder, url)[0].reason == Reason.UNSUPPORTED_URL


def test_drop_in_mid_body_is_resumed(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    cut, whole = Reply(data, etag='"1"', drop_after=40_000), Reply(data, etag='"1"')
    clip = fetch(run_folder, server.add("x.mp4", [cut, whole]))[0]
    assert content(run_folder, clip) == data
    assert source(clip).sha256 == hashlib.sha256(data).hexdigest()
    assert server.requests[-1].status == 206
    assert server.requests[-1].headers["if-range"] == '"1"'


def test_drop_where_ranges_are_ignored(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    cut, whole = Reply(data, ranges=False, drop_after=40_000), Reply(data, ranges=False)
    assert content(run_folder, fetch(run_folder, server.add("x.mp4", [cut, whole]))[0]) == data
    assert fetch(run_folder, server.add("y.mp4", cut))[0].reason == Reason.INCOMPLETE


@pytest.mark.parametrize("etags", [('"1"', '"2"'), ("", "")])
def test_file_that_changes_in_between(
    server: HttpServer, site: Path, run_folder: Path, etags: tuple[str, str]
) -> None:
    old, new = b"\0" * 200_000, (site / "v.mp4").read_bytes()
    replies = [Reply(old, etag=etags[0], drop_after=50_000), Reply(new, etag=etags[1])]
    assert content(run_folder, fetch(run_folder, server.add("x.mp4", replies))[0]) == new


def test_stall(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    stuck = Reply(data, stall_after=1000)
    once = replace(QUICK, retries=1)
    clip = fetch(run_folder, server.add("x.mp4", stuck), settings=once)[0]
    assert clip.reason == Reason.STALLED
    assert server.hits("x.mp4") == 2
    by_ytdlp = replace(QUICK, via="ytdlp", retries=0)
    late = [Reply(data, type="video/mp4"), stuck]
    clip = fetch(run_folder, server.add("y.mp4", late), settings=by_ytdlp)[0]
    assert clip.reason == Reason.STALLED


def test_slow_but_steady_is_fine(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    slow = Reply(data, chunk=len(data) // 8 + 1, pause_s=0.15)
    assert content(run_folder, fetch(run_folder, server.add("x.mp4", slow))[0]) == data


@pytest.mark.parametrize("via", ["http", "ytdlp"])
def test_total_time_is_bounded(server: HttpServer, run_folder: Path, via: str) -> None:
    trickle = Reply(b"\0" * 40_000, type="video/mp4", chunk=400, pause_s=0.1)
    short = replace(QUICK, timeout_s=0.6, via=via)
    clip = fetch(run_folder, server.add("x.mp4", trickle), settings=short)[0]
    assert clip.reason == Reason.TIMEOUT


@pytest.mark.parametrize("via", ["http", "ytdlp"])
def test_endless_body(server: HttpServer, run_folder: Path, via: str) -> None:
    endless = Reply(b"\0" * 65536, type="video/mp4", endless=True)
    small = replace(QUICK, max_bytes=1_000_000, via=via)
    clip = fetch(run_folder, server.add("x.mp4", endless), settings=small)[0]
    assert clip.reason == Reason.TOO_LARGE
    assert sum(p.stat().st_size for p in stored(run_folder)) == 0


@pytest.mark.parametrize("via", ["http", "ytdlp"])
def test_announced_size_is_checked_first(server: HttpServer, run_folder: Path, via: str) -> None:
    stuck = Reply(b"\0" * 2_000_000, type="video/mp4", stall_after=0)
    small = replace(QUICK, max_bytes=1_000_000, via=via)
    clip = fetch(run_folder, server.add("x.mp4", stuck), settings=small)[0]
    assert clip.reason == Reason.TOO_LARGE


def test_endless_page(server: HttpServer, run_folder: Path) -> None:
    endless = Reply(b"<html>" + b" " * 65530, type="text/html", endless=True)
    small = replace(QUICK, max_bytes=1_000_000)
    clip = fetch(run_folder, server.add("page", endless), settings=small)[0]
    assert clip.reason == Reason.TOO_LARGE


def test_no_connection(run_folder: Path) -> None:
    with HttpServer() as gone:
        url = gone.url("x.mp4")
        page = gone.url("page")
    clips = fetch(run_folder, url, page, "http://no-such-host.invalid/x.mp4")
    assert [c.reason for c in clips] == [Reason.CONNECTION] * 3


def test_through_a_proxy(server: HttpServer, run_folder: Path) -> None:
    for via in ("http", "ytdlp"):
        settings = replace(QUICK, proxy=f"http://127.0.0.1:{server.port}", via=via)
        source(fetch(run_folder, "http://no-such-host.invalid/v.mp4", settings=settings)[0])
        assert server.requests[-1].headers["host"] == "no-such-host.invalid"


def test_cookies(server: HttpServer, site: Path, run_folder: Path, tmp_path: Path) -> None:
    jar = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ts3cr3t\n"
    jar.write_text(text)
    for via in ("http", "ytdlp"):
        settings = replace(QUICK, cookies_file=str(jar), via=via)
        source(fetch(run_folder, server.url("v.mp4"), settings=settings)[0])
        assert "session=s3cr3t" in server.requests[-1].headers["cookie"]
    assert jar.read_text() == text


def test_rate_limit_is_shared(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    urls = [server.add(f"{i}.mp4", Reply(data)) for i in range(2)]
    limited = replace(QUICK, rate_limit_bytes_s=len(data), stall_timeout_s=5)
    started = time.monotonic()
    for clip in fetch(run_folder, *urls, settings=limited):
        source(clip)
    assert time.monotonic() - started >= 1.5


def test_streams_that_are_required(server: HttpServer, run_folder: Path) -> None:
    mute, sound = server.url("mute.mp4"), server.url("sound.m4a")
    clips = fetch(run_folder, mute, sound)
    assert [c.reason for c in clips] == [Reason.NO_AUDIO, Reason.NO_VIDEO]
    relaxed = replace(QUICK, require_audio=False, require_video=False)
    for clip in fetch(run_folder, mute, sound, settings=relaxed):
        source(clip)
    assert server.hits("mute.mp4") == 1  # what was fetched is kept, whatever is required of it


def test_damaged_and_empty(server: HttpServer, site: Path, run_folder: Path) -> None:
    data = (site / "v.mp4").read_bytes()
    urls = [
        server.add("cut.mp4", Reply(data[: len(data) // 2])),
        server.add("empty.mp4", Reply(b"")),
        server.add("noise.mp4", Reply(bytes(range(256)) * 100)),
    ]
    reasons = [c.reason for c in fetch(run_folder, *urls)]
    assert reasons == [Reason.CORRUPT, Reason.EMPTY, Reason.NOT_MEDIA]
    assert not list(run_folder.rglob("*.mp4"))


def test_unusable_local_paths(run_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello there, this is no video")
    paths = [".", "none.mp4", "pipe.mp4", "empty.mp4", "text.mp4", "nul\0.mp4", "x" * 5000]
    clips = fetch(run_folder, *(str(tmp_path / p) for p in paths), "/dev/zero")
    assert [c.reason for c in clips] == [
        Reason.NOT_MEDIA,
        Reason.NOT_FOUND,
        Reason.NOT_MEDIA,
        Reason.EMPTY,
        Reason.NOT_MEDIA,
        Reason.BAD_URL,
        Reason.BAD_URL,
        Reason.NOT_MEDIA,
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_local_file(site: Path, run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes((site / "v.mp4").read_bytes())
    path.chmod(stat.S_IWUSR)
    assert fetch(run_folder, str(path))[0].reason == Reason.FORBIDDEN
