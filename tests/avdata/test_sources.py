"""The parts of fetching that need no server."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from avdata.config import FetchSettings
from avdata.errors import ClipError, Reason, SettingsError, StoreError
from avdata.sources import canonical_url, is_playlist, is_web, media_suffix
from avdata.sources.http import is_page, load_cookies
from avdata.sources.limits import Limits, RateLimiter, RetryLaterError
from avdata.sources.partial import PartialFile, Version
from avdata.sources.ytdlp import is_known_site

# --- URLs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://a/b", "https://a", "HTTPS://a/b"])
def test_web_urls(url: str) -> None:
    assert is_web(url)


@pytest.mark.parametrize("path", ["/a/b.mp4", "a.mp4", "./data:x", "-a", "a b/c:d", "12:30.mp4"])
def test_local_paths(path: str) -> None:
    assert not is_web(path)


@pytest.mark.parametrize("url", ["file:///x", "concat:a|b", "data:x", "http:/x", "s3://b/k", "a:b"])
def test_other_protocols_are_refused(url: str) -> None:
    with pytest.raises(ClipError) as caught:
        is_web(url)
    assert caught.value.reason is Reason.FORBIDDEN_PROTOCOL


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Host.ORG:80", "http://host.org/"),
        ("https://h:443/A?b=C#t=3", "https://h/A?b=C"),
        ("https://h:80/", "https://h:80/"),
        (" http://u:P@H/x ", "http://u:P@h/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_canonical_url(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical


@pytest.mark.parametrize("url", ["http://", "http:///x", "http://h:99999/x", "http://[::1/x"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(ClipError) as caught:
        canonical_url(url)
    assert caught.value.reason is Reason.BAD_URL


@pytest.mark.parametrize(
    ("url", "suffix"),
    [
        ("http://h/x.MP4?sig=1", ".mp4"),
        ("http://h/x%2Emkv", ".mkv"),
        ("http://h/watch?v=x.mp4", ""),
        ("http://h/x.m3u8", ""),
        ("http://h.mp4/", ""),
        ("/a/b.webm", ".webm"),
    ],
)
def test_media_suffix(url: str, suffix: str) -> None:
    assert media_suffix(url) == suffix


def test_playlists_and_sites() -> None:
    assert is_playlist("https://h/x.m3u8?a=1")
    assert not is_playlist("https://h/x.mp4")
    assert is_known_site("https://www.youtube.com/watch?v=dQw4w9WgXcQ")
    assert not is_known_site("http://127.0.0.1/x")


# --- limits ------------------------------------------------------------------------------------


def limits(stop: threading.Event | None = None, **settings: float) -> Limits:
    values = FetchSettings(**{"backoff_s": 0.001, "retries": 2, **settings})
    return Limits(values, RateLimiter(None), stop)


class Failing:
    """Fails with the given reasons, one per call, then returns 7."""

    def __init__(self, *reasons: Reason) -> None:
        self.reasons = list(reasons)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.reasons:
            raise ClipError(self.reasons.pop(0), "it failed")
        return 7


def test_retries_what_may_pass() -> None:
    attempt = Failing(Reason.SERVER_ERROR, Reason.STALLED)
    assert limits().retrying(attempt) == 7
    assert attempt.calls == 3


def test_gives_up_after_the_retries() -> None:
    attempt = Failing(*[Reason.INCOMPLETE] * 9)
    with pytest.raises(ClipError, match="tried 3 times") as caught:
        limits().retrying(attempt)
    assert caught.value.reason is Reason.INCOMPLETE
    assert attempt.calls == 3


@pytest.mark.parametrize("reason", [Reason.NOT_FOUND, Reason.PRIVATE, Reason.RATE_LIMITED])
def test_does_not_insist(reason: Reason) -> None:
    attempt = Failing(reason)
    with pytest.raises(ClipError):
        limits().retrying(attempt)
    assert attempt.calls == 1


def test_does_not_wait_past_the_end() -> None:
    def ask() -> None:
        error = RetryLaterError(Reason.SERVER_ERROR, "later")
        error.retry_after_s = 3600.0
        raise error

    with pytest.raises(ClipError) as caught:
        limits(timeout_s=60.0).retrying(ask)
    assert caught.value.reason is Reason.SERVER_ERROR


def test_time_runs_out_and_calls_off() -> None:
    short = limits(timeout_s=0.01)
    time.sleep(0.02)
    with pytest.raises(ClipError) as caught:
        short.remaining_s()
    assert caught.value.reason is Reason.TIMEOUT
    stop = threading.Event()
    stopped = limits(stop)
    stop.set()
    with pytest.raises(CancelledError):
        stopped.remaining_s()
    with pytest.raises(CancelledError):
        stopped.pause(1000)


def test_rate_is_shared_by_threads() -> None:
    rate = RateLimiter(100_000)
    started = time.monotonic()
    threads = [threading.Thread(target=rate.took, args=(10_000,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 0.29
    assert rate.block_bytes == 25_000


# --- partial files -----------------------------------------------------------------------------


def test_partial_file_goes_on_in_another_process(tmp_path: Path) -> None:
    first = PartialFile(tmp_path / "body")
    first.start(Version(etag='"1"', total=10))
    first.append(b"abcd")
    first.close()
    second = PartialFile(tmp_path / "body")
    assert second.size == 4
    assert second.range_headers() == {"Range": "bytes=4-", "If-Range": '"1"'}
    assert second.goes_on_with(Version(etag='"1"', total=10, start=4))
    second.append(b"efghij")
    second.close()
    assert second.sha256 == hashlib.sha256(b"abcdefghij").hexdigest()
    assert (tmp_path / "body").read_bytes() == b"abcdefghij"
    assert second.is_whole(Version(total=10))


@pytest.mark.parametrize(
    "sent",
    [
        Version(etag='"2"', total=10, start=4),
        Version(etag='"1"', total=11, start=4),
        Version(etag='"1"', total=10, start=3),
        Version(start=4),
    ],
)
def test_another_version_does_not_go_on(tmp_path: Path, sent: Version) -> None:
    partial = PartialFile(tmp_path / "body")
    partial.start(Version(etag='"1"', total=10))
    partial.append(b"abcd")
    partial.close()
    assert not partial.goes_on_with(sent)


def test_partial_file_without_notes_starts_over(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"from who knows where")
    assert PartialFile(tmp_path / "body").size == 0
    (tmp_path / "body").write_bytes(b"x")
    (tmp_path / "body.json").write_text("{broken")
    assert PartialFile(tmp_path / "body").range_headers() == {}


def test_weak_etags_are_not_sent_as_if_range(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / "body")
    partial.start(Version(etag='W/"1"', total=10))
    partial.append(b"a")
    partial.close()
    assert partial.range_headers() == {"Range": "bytes=1-"}


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"Content-Length": "9", "ETag": "e"}, Version("e", "", 9, 0)),
        ({"Content-Range": "bytes 3-8/9", "Content-Length": "6"}, Version("", "", 9, 3)),
        ({"Content-Range": "bytes 3-8/*"}, Version("", "", None, 3)),
        ({"Content-Range": "bytes */9"}, Version("", "", 9, -1)),
        ({"Content-Range": "nonsense"}, Version("", "", None, -1)),
        ({"Content-Length": "9", "Content-Encoding": "gzip", "ETag": "e"}, Version()),
        ({"Content-Length": "\u00b2"}, Version()),
        ({"Content-Length": "\u0663"}, Version()),
        ({"Content-Length": "-1"}, Version()),
        ({"Content-Length": "9" * 5000}, Version(total=10**18)),
        ({"Content-Range": f"bytes {'1' * 5000}-{'2' * 5000}/9"}, Version("", "", 9, 10**18)),
        ({"Content-Range": "bytes \u00b2-\u00b2/\u00b2"}, Version("", "", None, -1)),
    ],
)
def test_version_of_headers(headers: dict[str, str], version: Version) -> None:
    assert Version.of(headers) == version


def test_disk_that_refuses_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "body").mkdir()
    partial = PartialFile.__new__(PartialFile)
    partial.path, partial._file = tmp_path / "body", None
    with pytest.raises(StoreError, match="cannot write"):
        partial.append(b"x")


# --- pages and cookies -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "page"),
    [
        (b"<!DOCTYPE HTML><title>A\n B</title>", True),
        (b"\xef\xbb\xbf \n<html lang=de>", True),
        (b"\0\0\0\x18ftypmp42", False),
        (b"#EXTM3U", False),
        (b"<?xml version='1.0'?><MPD/>", False),
    ],
)
def test_pages(head: bytes, page: bool) -> None:
    assert is_page(head) is page


def test_cookies_file_must_be_one(tmp_path: Path) -> None:
    assert load_cookies(None) is None
    path = tmp_path / "cookies.txt"
    path.write_text("hello")
    with pytest.raises(SettingsError, match="not a cookies file"):
        load_cookies(str(path))
