"""A threaded HTTP server on 127.0.0.1 that serves files and fails on demand.

with HttpServer(folder) as server:              # every file of the folder, with Range
    server.add("/v.mp4", Reply(data, stall_after=1000))
    server.add("/w.mp4", [Reply(status=503), Reply(status=503), Reply(data)])
    ... server.url("v.mp4") ...
    assert server.hits("/v.mp4") == 1
"""

from __future__ import annotations

import mimetypes
import re
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit


@dataclass(frozen=True)
class Reply:
    """One answer, with the ways in which it may go wrong."""

    body: bytes = b""
    status: int = 200
    type: str | None = None  # Content-Type; None: by the path's suffix, "": not sent
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    ranges: bool = True  # False: ignore Range and send everything
    length: bool = True  # False: no Content-Length, the end is the closed connection
    drop_after: int | None = None  # close the connection after this many bytes
    stall_after: int | None = None  # send this many bytes, then nothing while the server runs
    chunk: int = 1 << 20
    pause_s: float = 0.0  # before each chunk
    endless: bool = False  # send the body again and again


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str  # decoded, without the query
    query: str
    headers: Mapping[str, str]  # names in lower case
    status: int


class HttpServer:
    """Serves the replies that were added, else the files of `folder`, else 404."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._replies: dict[str, list[Reply]] = {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "") -> str:
        """Return the URL of a path (decoded, without query)."""
        return f"http://127.0.0.1:{self.port}/{quote(path.lstrip('/'))}"

    def add(self, path: str, replies: Reply | Sequence[Reply]) -> str:
        """Answer `path` (decoded, without query) so; of several replies the last one stays."""
        path = "/" + path.lstrip("/")
        self._replies[path] = [replies] if isinstance(replies, Reply) else list(replies)
        return self.url(path)

    def hits(self, path: str, method: str = "GET") -> int:
        """Return how often `path` was asked for."""
        path = "/" + path.lstrip("/")
        return sum(r.path == path and r.method == method for r in self.requests)

    def reply_to(self, path: str) -> Reply:
        with self._lock:
            if replies := self._replies.get(path):
                return replies.pop(0) if len(replies) > 1 else replies[0]
        if self.folder is not None:
            file = (self.folder / path.lstrip("/")).resolve()
            if file.is_file() and file.is_relative_to(self.folder.resolve()):
                return Reply(file.read_bytes())
        return Reply(b"<html><title>Not here</title></html>", status=404, type="text/html")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; a bug in the server is still shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: HttpServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        reply = self.owner.reply_to(path)
        status, first, body = self._ranged(reply)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.owner.requests.append(Request(self.command, path, parts.query, headers, status))
        self.send_response(status)
        kind = reply.type if reply.type is not None else mimetypes.guess_type(path)[0] or ""
        if kind:
            self.send_header("Content-Type", kind)
        if reply.etag:
            self.send_header("ETag", reply.etag)
        if reply.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            last = first + len(body) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(reply.body)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(reply.body)}")
        if reply.length and not reply.endless:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send_body(reply, body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _ranged(self, reply: Reply) -> tuple[int, int, bytes]:
        """Return status, first byte and body, with Range and If-Range honoured."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if reply.status != 200 or not reply.ranges or wanted is None:
            return reply.status, 0, reply.body
        if_range = self.headers.get("If-Range")
        if if_range and if_range != reply.etag:
            return 200, 0, reply.body
        first = int(wanted[1])
        if first >= len(reply.body):
            return 416, 0, b""
        end = int(wanted[2]) + 1 if wanted[2] else len(reply.body)
        return 206, first, reply.body[first:end]

    def _send_body(self, reply: Reply, body: bytes) -> None:
        sent = 0
        try:
            while reply.endless or sent < len(body):
                at = sent % len(body)
                piece = body[at : at + reply.chunk]
                for limit in (reply.drop_after, reply.stall_after):
                    if limit is not None:
                        piece = piece[: max(0, limit - sent)]
                if reply.pause_s and self.owner.closing.wait(reply.pause_s):
                    return
                self.wfile.write(piece)
                sent += len(piece)
                if reply.drop_after is not None and sent >= reply.drop_after:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if reply.stall_after is not None and sent >= reply.stall_after:
                    self.owner.closing.wait(60)
                    self.close_connection = True
                    return
        except OSError:  # the client went away
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
