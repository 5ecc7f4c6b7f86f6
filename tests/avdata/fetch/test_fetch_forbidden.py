"""What a manifest, a page, a playlist or a redirect must not make us open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from avdata.clip import Clip, Status
from avdata.errors import Reason
from tests.fetching import QUICK, fetch, ffmpeg, source, stored
from tests.http_server import HttpServer, Reply


@pytest.fixture
def secret(site: Path, tmp_path: Path) -> Path:
    """A private video: were it followed, it would be taken for a good one."""
    path = tmp_path / "secret.mp4"
    ffmpeg(
        *("-i", str(site / "v.mp4"), "-c", "copy", "-metadata", "title=TOP-SECRET-4711"), str(path)
    )
    assert b"TOP-SECRET-4711" in path.read_bytes()
    return path


def assert_not_leaked(run_folder: Path, clips: list[Clip]) -> None:
    for clip in clips:
        assert clip.status is Status.FAILED
        assert clip.reason
        assert "TOP-SECRET" not in clip.detail
    for path in stored(run_folder):
        assert b"TOP-SECRET" not in path.read_bytes(), path


@pytest.mark.parametrize(
    "url",
    [
        "file://{}",
        "FILE://{}",
        "file:{}",
        "concat:{}|{}",
        "subfile:,,start,0,end,0,,:{}",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
        "ftp://127.0.0.1/x.mp4",
        "http:{}",
        "crypto:file:{}",
        "ytsearch:rain",
    ],
)
def test_other_protocols(run_folder: Path, secret: Path, url: str) -> None:
    clips = fetch(run_folder, url.format(secret, secret))
    assert_not_leaked(run_folder, clips)
    assert clips[0].reason == Reason.FORBIDDEN_PROTOCOL


@pytest.mark.parametrize("via", ["http", "auto", "ytdlp"])
def test_redirects_stay_on_http(
    server: HttpServer, run_folder: Path, secret: Path, via: str
) -> None:
    away = Reply(status=302, headers={"Location": f"file://{secret}"})
    urls = [server.add("x.mp4", away), server.add("page", away)]
    clips = fetch(run_folder, *urls, settings=replace(QUICK, via=via, retries=0))
    assert_not_leaked(run_folder, clips)
    circle = Reply(status=302, headers={"Location": "/c.mp4"})
    assert fetch(run_folder, server.add("c.mp4", circle))[0].reason == Reason.HTTP_ERROR
    hop = Reply(status=302, headers={"Location": "/v.mp4"})
    source(fetch(run_folder, server.add("h.mp4", hop))[0])


def hls(*lines: str) -> bytes:
    head = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:6")
    return "\n".join([*head, *lines, "#EXT-X-ENDLIST", ""]).encode()


@pytest.mark.parametrize("via", ["http", "auto", "ytdlp"])
@pytest.mark.parametrize(
    "address", ["file://{}", "{}", "concat:{}", "subfile:,,start,0,end,0,,:{}"]
)
def test_hls_to_local_files(
    server: HttpServer, run_folder: Path, secret: Path, via: str, address: str
) -> None:
    local = address.format(secret)
    kind = "application/vnd.apple.mpegurl"
    media = hls("#EXTINF:6,", local)
    initial = hls(f'#EXT-X-MAP:URI="{local}"', "#EXTINF:6,", "low0.ts")
    master = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{local}\n".encode()
    key = hls(f'#EXT-X-KEY:METHOD=AES-128,URI="{local}"', "#EXTINF:6,", "low0.ts")
    sample = hls(f'#EXT-X-KEY:METHOD=SAMPLE-AES,URI="{local}"', "#EXTINF:6,", local)
    urls = [
        server.add(f"{name}.m3u8", Reply(body, type=kind))
        for name, body in (("a", media), ("b", initial), ("c", master), ("d", key), ("e", sample))
    ]
    urls.append(server.add("f.mp4", Reply(media, type="video/mp4")))
    clips = fetch(run_folder, *urls, settings=replace(QUICK, via=via, retries=0))
    assert_not_leaked(run_folder, clips)


@pytest.mark.parametrize("via", ["http", "auto", "ytdlp"])
@pytest.mark.parametrize("address", ["file://{}", "{}"])
def test_dash_to_local_files(
    server: HttpServer, run_folder: Path, secret: Path, via: str, address: str
) -> None:
    mpd = f"""<?xml version="1.0"?>
        <MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT6S">
        <Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">
        <BaseURL>{address.format(secret)}</BaseURL>
        </Representation></AdaptationSet></Period></MPD>""".encode()
    urls = [
        server.add("a.mpd", Reply(mpd, type="application/dash+xml")),
        server.add("b.mp4", Reply(mpd, type="video/mp4")),
    ]
    clips = fetch(run_folder, *urls, settings=replace(QUICK, via=via, retries=0))
    assert_not_leaked(run_folder, clips)


def test_segments_that_are_scripts(server: HttpServer, run_folder: Path, secret: Path) -> None:
    """Sound and pictures come apart and are merged by ffmpeg: it must not follow what they say."""
    stream = secret.with_suffix(".ts")
    ffmpeg("-i", str(secret), "-c", "copy", "-metadata", "service_name=TOP-SECRET", str(stream))
    assert b"TOP-SECRET" in stream.read_bytes()
    scripts = {
        "s1.ts": f"ffconcat version 1.0\nfile '{stream}'\n".encode(),
        "s2.ts": hls("#EXTINF:6,", str(stream)),
        "s3.ts": hls("#EXTINF:6,", f"file://{stream}"),
    }
    urls = []
    for name, script in scripts.items():
        server.add(name, Reply(script))
        server.add(f"{name}.m3u8", Reply(hls("#EXTINF:6,", name)))
        master = (
            f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",URI="{name}.m3u8"\n'
            '#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.42e01e,mp4a.40.2",AUDIO="a"\n'
            f"{name}.m3u8\n"
        )
        urls.append(server.add(f"{name}.master.m3u8", Reply(master.encode())))
    clips = fetch(run_folder, *urls, settings=replace(QUICK, retries=0))
    assert_not_leaked(run_folder, clips)


def test_page_that_names_local_files(server: HttpServer, run_folder: Path, secret: Path) -> None:
    page = f"""<html><script>videojs('v').src([{{"src": "file://{secret}", "type": "video/mp4"}}]);
        </script><video src="file://{secret}"></video></html>""".encode()
    url = server.add("page", Reply(page, type="text/html"))
    assert_not_leaked(run_folder, fetch(run_folder, url, settings=replace(QUICK, retries=0)))
