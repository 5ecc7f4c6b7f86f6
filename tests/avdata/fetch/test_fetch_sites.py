"""What sites want: patience, plugins, arguments, the cookies of a browser."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from avdata.config import FetchSettings
from avdata.errors import ClipError, Reason, SettingsError
from avdata.sources import ytdlp_child
from avdata.sources.limits import RetryLaterError
from avdata.sources.pause import Pause
from avdata.store import Store
from tests.fetching import QUICK, content, fetch, source
from tests.http_server import HttpServer, Reply

PATIENT = replace(QUICK, pause_s=0.1, pause_total_s=60, retries=0)
BOT_CHECK = ClipError(Reason.BOT_CHECK, "Sign in to confirm you are not a bot")


@pytest.mark.parametrize("via", ["http", "ytdlp"])
def test_no_row_fails_for_a_rate_limit(
    server: HttpServer, site: Path, run_folder: Path, via: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = Reply((site / "v.mp4").read_bytes())
    refused = Reply(status=429)
    urls = [server.add(f"{i}.mp4", [refused, good]) for i in "abc"]
    with caplog.at_level(logging.WARNING):
        for clip in fetch(run_folder, *urls, settings=replace(PATIENT, via=via)):
            source(clip)
    assert "127.0.0.1: " in caplog.text
    assert "all workers leave this site alone" in caplog.text


def test_the_wait_is_bounded(server: HttpServer, run_folder: Path) -> None:
    url = server.add("x.mp4", Reply(status=429))
    bounded = replace(PATIENT, pause_total_s=0.5)
    assert fetch(run_folder, url, settings=bounded)[0].reason == Reason.RATE_LIMITED
    assert server.hits("x.mp4") >= 3


def pause(folder: Path | str, video: str = "a", **settings: float) -> Pause:
    values = replace(PATIENT, **settings)
    url = f"https://www.site.org/{video}"
    return Pause(Store(str(folder)), url, values, threading.Event())


@pytest.mark.parametrize("root", ["{tmp}", "memory://pauses"])
def test_one_refusal_makes_all_wait(tmp_path: Path, root: str) -> None:
    folder = root.format(tmp=tmp_path)
    began_s = time.monotonic()
    assert pause(folder, pause_s=0.6).after(BOT_CHECK)
    other = pause(folder, "b")
    other.wait()
    assert time.monotonic() - began_s >= 0.55
    other.answered()


def test_other_sites_go_on(tmp_path: Path) -> None:
    assert pause(tmp_path, pause_s=3600).after(BOT_CHECK)
    Pause(Store(str(tmp_path)), "https://other.org/", PATIENT, threading.Event()).wait()


def test_pauses_grow_until_an_answer(tmp_path: Path) -> None:
    def length_s(one: Pause) -> float:
        known = one._known()
        return round(known.length_s, 3)

    first = pause(tmp_path, pause_s=0.01)
    lengths = []
    for _ in range(4):
        assert first.after(BOT_CHECK)
        lengths.append(length_s(first))
        first.wait()
    assert lengths == [0.01, 0.02, 0.04, 0.08]
    first.answered()
    assert pause(tmp_path, "b", pause_s=0.01).after(BOT_CHECK)
    assert length_s(first) == 0.01


def test_those_refused_together_begin_one_pause(tmp_path: Path) -> None:
    workers = [pause(tmp_path, video, pause_s=100, pause_total_s=1000) for video in "abc"]
    assert all(worker.after(BOT_CHECK) for worker in workers)
    assert workers[0]._known().length_s == 100


def test_a_video_that_alone_is_refused_fails(tmp_path: Path) -> None:
    alone, again = pause(tmp_path, "a", pause_s=0.001), True
    for _ in range(20):
        again = alone.after(BOT_CHECK)
        if not again:
            break
        alone.wait()
        other = pause(tmp_path, "b")
        other.wait()
        other.answered()
    assert not again


def test_a_longer_wait_than_is_allowed_fails_at_once(tmp_path: Path) -> None:
    later = RetryLaterError(Reason.RATE_LIMITED, "HTTP 429")
    later.retry_after_s = 100.0
    assert not pause(tmp_path, pause_total_s=10).after(later)
    assert not pause(tmp_path, pause_total_s=0).after(BOT_CHECK)
    assert not pause(tmp_path).after(ClipError(Reason.NOT_FOUND, "HTTP 404"))


PLUGIN = """
from pathlib import Path
from yt_dlp.extractor.common import InfoExtractor

Path(__file__).with_suffix(".loaded").touch()

class MineIE(InfoExtractor):
    _VALID_URL = r"(?P<base>https?://[^/]+)/mine/(?P<id>.+)"

    def _real_extract(self, url):
        base, name = self._match_valid_url(url).group("base", "id")
        name = self._configuration_arg("file", [name], ie_key="mine")[0]
        return {"id": name, "title": name, "url": f"{base}/{name}", "ext": "mp4"}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin of yt-dlp that is installed where Python finds it; it notes that it was loaded."""
    path = tmp_path / "installed" / "yt_dlp_plugins" / "extractor" / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"), prepend=":")
    while ytdlp_child._idle:  # they began before it was installed
        ytdlp_child._idle.pop().kill()
    return path


def test_plugins_stay_off(server: HttpServer, run_folder: Path, plugin: Path) -> None:
    url = server.url("mine/walk")
    clip = fetch(run_folder, url, settings=replace(QUICK, via="ytdlp"))[0]
    assert clip.reason == Reason.NOT_FOUND
    assert not plugin.with_suffix(".loaded").exists()


def test_named_plugins_and_their_arguments(
    server: HttpServer, site: Path, run_folder: Path, plugin: Path
) -> None:
    settings = replace(QUICK, via="auto", ytdlp_plugins=("mine",))
    clip = fetch(run_folder, server.url("mine/walk"), settings=settings)[0]
    assert clip.reason == Reason.NOT_FOUND
    told = replace(settings, extractor_args={"mine": {"file": ("v.mp4",)}})
    clip = fetch(run_folder, server.url("mine/walk"), settings=told)[0]
    assert content(run_folder, clip) == (site / "v.mp4").read_bytes()


def test_a_plugin_that_is_not_there(server: HttpServer, run_folder: Path) -> None:
    settings = replace(QUICK, via="ytdlp", ytdlp_plugins=("none_such",))
    with pytest.raises(SettingsError, match="none_such"):
        fetch(run_folder, server.url("v.mp4"), settings=settings)


def test_cookies_of_a_browser(server: HttpServer, run_folder: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cookies.sqlite") as profile:
        columns = "host TEXT, name TEXT, value TEXT, path TEXT, expiry INTEGER, isSecure INTEGER"
        profile.execute(f"CREATE TABLE moz_cookies ({columns})")
        values = ("127.0.0.1", "session", "s3cr3t", "/", int(time.time()) + 3600, 0)
        profile.execute("INSERT INTO moz_cookies VALUES (?, ?, ?, ?, ?, ?)", values)
    settings = FetchSettings(via="ytdlp", cookies_from_browser=f"firefox:{tmp_path}")
    source(fetch(run_folder, server.url("v.mp4"), settings=settings)[0])
    assert "session=s3cr3t" in server.requests[-1].headers["cookie"]
