"""The demo's HTTP server: whole files, byte ranges, and nothing outside its folder."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from avdata.demo import serve
from avdata.errors import AvdataError


def ask(
    base_url: str, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=10)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=names)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "v.mp4").write_bytes(bytes(range(256)) * 1000)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / ".tmp-1-v.mp4").write_bytes(b"unfinished")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.mp4").symlink_to(tmp_path / "secret.txt")
    with serve(folder) as base_url:
        yield base_url


DATA = bytes(range(256)) * 1000


def test_server_gives_whole_files(site: str) -> None:
    status, headers, body = ask(site, "/v.mp4")
    assert (status, body) == (200, DATA)
    assert headers["Content-Type"] == "video/mp4"
    assert headers["Accept-Ranges"] == "bytes"
    status, headers, body = ask(site, "/v.mp4?sig=1", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "256000", b"")
    assert ask(site, "/empty.mp4")[0] == 200


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=1000-1999", 1000, 1999),
        ("bytes=255990-", 255990, 255999),
        ("bytes=255990-999999", 255990, 255999),
        ("bytes=-10", 255990, 255999),
        ("bytes=-999999", 0, 255999),
    ],
)
def test_server_gives_ranges(site: str, asked: str, first: int, last: int) -> None:
    status, headers, body = ask(site, "/v.mp4", Range=asked)
    assert status == 206
    assert body == DATA[first : last + 1]
    assert headers["Content-Range"] == f"bytes {first}-{last}/256000"


def test_server_refuses_ranges_outside(site: str) -> None:
    for asked in ("bytes=256000-", "bytes=5-4", "bytes=-0"):
        status, headers, _ = ask(site, "/v.mp4", Range=asked)
        assert (status, headers["Content-Range"]) == (416, "bytes */256000")


def test_server_sends_all_when_the_file_changed(site: str) -> None:
    etag = ask(site, "/v.mp4", "HEAD")[1]["ETag"]
    assert ask(site, "/v.mp4", Range="bytes=10-", If_Range=etag)[0] == 206
    assert ask(site, "/v.mp4", Range="bytes=10-", If_Range='"other"')[2] == DATA


@pytest.mark.parametrize(
    "path",
    [
        "/absent.mp4",
        "/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//etc/passwd",
        "/%00",
        "/link.mp4",
        "/.tmp-1-v.mp4",
    ],
)
def test_server_gives_nothing_else(site: str, path: str) -> None:
    status, _, body = ask(site, path)
    assert status == 404
    assert b"secret" not in body.replace(b"secret.txt", b"")


def test_taken_port_is_explained(tmp_path: Path) -> None:
    with serve(tmp_path) as base_url:
        port = urlsplit(base_url).port
        assert port
        with pytest.raises(AvdataError, match=f"port {port} .* taken"), serve(tmp_path, port):
            pass
    with serve(tmp_path, port) as again:  # free once more
        assert urlsplit(again).port == port
