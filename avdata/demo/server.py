"""A small HTTP server on 127.0.0.1 for the demo videos: whole files and byte ranges."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from avdata.errors import AvdataError

HOST = "127.0.0.1"
DEFAULT_PORT = 8917  # fixed, so that the manifest's URLs, and all that follows, are reproducible
TYPES = {".mp4": "video/mp4", ".json": "application/json", ".csv": "text/csv"}
CHUNK_BYTES = 1 << 16


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve the files of `folder` while the context lasts; give the base URL, without a slash.

    Port 0 takes any free one. Raises AvdataError when the port is taken.
    """
    root = Path(folder).resolve()
    handler = type("DemoHandler", (_Handler,), {"root": root})
    try:
        server = _Server((HOST, port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise AvdataError(
            f"port {port} on {HOST} is taken by another program; stop it, or make the demo data "
            "and serve them with another port"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a client hangs up early, as downloaders do that probe a file first."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    root: Path
    protocol_version = "HTTP/1.1"
    timeout = 30  # an idle connection must not hold up the end of the server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: progress is the run's business."""

    def _answer(self, body: bool) -> None:
        path = self._file()
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
            span = self._span(status.st_size, etag)
            if span is None:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{status.st_size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, last = span
            whole = (first, last) == (0, status.st_size - 1) and "Range" not in self.headers
            self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
            self.send_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", etag)
            if not whole:
                self.send_header("Content-Range", f"bytes {first}-{last}/{status.st_size}")
            self.end_headers()
            file.seek(first)
            left = last - first + 1 if body else 0
            while left > 0 and (data := file.read(min(left, CHUNK_BYTES))):
                self.wfile.write(data)
                left -= len(data)

    def _file(self) -> Path | None:
        """Return the file asked for; None for anything outside the folder, hidden, or no file."""
        name = unquote(urlsplit(self.path).path).lstrip("/")
        if "\0" in name or any(part.startswith(".") for part in name.split("/")):
            return None
        path = (self.root / name).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None

    def _span(self, size: int, etag: str) -> tuple[int, int] | None:
        """Return the first and last byte to send; None if the range lies outside the file."""
        whole = (0, size - 1)
        asked = self.headers.get("Range")
        if asked is None or self.headers.get("If-Range", etag) != etag:
            return whole
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.strip())
        if match is None or match[0] == "bytes=-":
            return whole  # several ranges or another unit: RFC 9110 lets us send everything
        if not match[1]:
            first, last = max(size - int(match[2]), 0), size - 1
        else:
            first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
        return (first, last) if first <= last else None
