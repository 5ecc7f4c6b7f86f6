"""Servers that never end, and what children of this process do then."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from avdata.clip import Clip
from avdata.errors import Reason
from avdata.steps.fetch import FetchStep
from tests.fetching import QUICK, context, fetch, source
from tests.http_server import HttpServer, Reply
from tests.raw_server import Talk, answer, drip, raw_server

SHORT = replace(QUICK, timeout_s=1.0, retries=0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"


def never_a_handshake(client: socket.socket, closing: threading.Event) -> None:
    client.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03")  # 16 kB of TLS will follow
    while not closing.wait(0.05):
        client.sendall(b"\0")


ENDLESS: dict[str, Talk] = {
    "status": drip(b"HTTP/1.1 2"),
    "header": drip(HEAD + b"X-Long: "),
    "headers": drip(HEAD, b"X: 1\r\n"),
    "continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": drip(HEAD + b"\r\n"),
    "chunks": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "chunk size": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "handshake": never_a_handshake,
}


@pytest.mark.parametrize("via", ["http", "ytdlp"])
@pytest.mark.parametrize("what", ENDLESS)
def test_what_never_ends_is_ended(run_folder: Path, via: str, what: str) -> None:
    scheme = "https" if what == "handshake" else "http"
    with raw_server(ENDLESS[what]) as port:
        url = f"{scheme}://127.0.0.1:{port}/x.mp4"
        clip = fetch(run_folder, url, settings=replace(SHORT, via=via))[0]
    # Some libraries give up by themselves before.
    assert clip.reason == Reason.TIMEOUT


def test_a_proxy_that_never_ends_is_ended(run_folder: Path) -> None:
    with raw_server(ENDLESS["header"]) as port:
        proxied = replace(SHORT, proxy=f"http://127.0.0.1:{port}")
        clip = fetch(run_folder, "https://no-such-host.invalid/x.mp4", settings=proxied)[0]
    assert clip.reason == Reason.TIMEOUT


@pytest.mark.parametrize("by_ffmpeg", [False, True])
def test_an_encrypted_segment_that_never_ends_is_ended(
    server: HttpServer, site: Path, run_folder: Path, by_ffmpeg: bool
) -> None:
    data = (site / "low0.ts").read_bytes()
    server.add("seg.ts", Reply(data, chunk=16, pause_s=0.05))
    server.add("key", Reply(bytes(16)))
    playlist = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
        '#EXT-X-KEY:METHOD=AES-128,URI="key"\n'
        "#EXTINF:2,\nseg.ts\n#EXT-X-ENDLIST\n"
    )
    url = server.add("x.m3u8", Reply(playlist.encode(), type="application/x-mpegurl"))
    # Sections are what yt-dlp leaves to ffmpeg.
    step = FetchStep(replace(SHORT, timeout_s=4, sections=by_ffmpeg))
    clip = Clip(key="k", url=url, source_id="x", start_ms=0, end_ms=1000)
    found: list[Clip] = []
    thread = threading.Thread(target=lambda: found.extend(step.run([clip], context(run_folder))))
    thread.start()
    seen: set[int] = set()
    while thread.is_alive():
        seen |= {p for p in children() if url in command_of(p) and "ffmpeg" in command_of(p)}
        thread.join(timeout=0.05)
    assert found[0].reason == Reason.TIMEOUT
    assert server.hits("seg.ts") > 0
    assert bool(seen) is by_ffmpeg
    wait_for(lambda: not any(command_of(p) for p in seen))


def children() -> set[int]:
    """Return the ids of all processes."""
    return {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()}


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_children_die_with_their_parent(server: HttpServer, run_folder: Path) -> None:
    stuck = Reply(b"\0" * 1000, type="video/mp4", stall_after=1)
    url = server.add("watch", stuck)
    program = f"""
from dataclasses import replace
from pathlib import Path
from tests.fetching import QUICK, fetch
patient = replace(QUICK, via="ytdlp", stall_timeout_s=60, timeout_s=60)
fetch(Path({str(run_folder)!r}), {url!r}, settings=patient)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    wait_for(lambda: server.hits("/watch") > 0)
    child = next(p for p in children() if parent_of(p) == parent.pid)
    assert "ytdlp_child" in command_of(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not command_of(child))


def parent_of(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def wait_for(condition: object) -> None:
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within 30 s")


@pytest.mark.parametrize("via", ["http", "ytdlp"])
@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: \u00b2",
        "Content-Length: " + "9" * 5000,
        "Content-Range: bytes " + "1" * 5000 + "-2/3",
        "Retry-After: \u00b2",
        "Retry-After: " + "9" * 5000,
        "Retry-After: Fri, 31 Dec 9999 23:59:59 -2359",
        "Location: http://[::1/x",
        "Location: http://127.0.0.1:99999/",
        "Location: http://\u00b2:\u00b2/",
        "Location: http:///",
    ],
)
def test_strange_headers_are_rows(run_folder: Path, line: str, via: str) -> None:
    kind = line.partition(":")[0]
    status = {"Content-Range": 206, "Retry-After": 429, "Location": 302}.get(kind, 200)
    head = f"HTTP/1.1 {status} X\r\n{line}\r\nContent-Type: video/mp4\r\nConnection: close\r\n\r\n"
    with raw_server(answer(head.encode(), b"no video")) as port:
        settings = replace(SHORT, via=via, timeout_s=20)
        clip = fetch(run_folder, f"http://127.0.0.1:{port}/x.mp4", settings=settings)[0]
    assert clip.status == "failed"
    assert clip.reason


def test_a_child_that_dies_costs_one_try(server: HttpServer, run_folder: Path) -> None:
    """The next source gets another child."""
    url = server.add("watch", Reply(b"\0" * 1000, type="video/mp4", stall_after=1))
    patient = replace(QUICK, via="ytdlp", stall_timeout_s=60, timeout_s=60)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(fetch(run_folder, url, settings=patient)[0])
    )
    thread.start()
    wait_for(lambda: server.hits("/watch") > 0)
    for process in children():
        if parent_of(process) == os.getpid() and "ytdlp_child" in command_of(process):
            os.kill(process, signal.SIGKILL)
    thread.join()
    assert found[0].reason == Reason.INCOMPLETE
    source(fetch(run_folder, server.url("v.mp4"), settings=replace(QUICK, via="ytdlp"))[0])
