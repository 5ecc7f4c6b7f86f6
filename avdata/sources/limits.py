"""What bounds a download: time, bytes, rate, tries."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from avdata.config import FetchSettings
from avdata.errors import TRANSIENT, ClipError, Reason

T = TypeVar("T")

MAX_BLOCK_BYTES = 1 << 20
MAX_STATED = 10**18  # what a server states is never taken for more


def stated_number(text: str) -> int | None:
    """Return a whole number as HTTP writes it (digits of ASCII), None for anything else."""
    if not re.fullmatch(r"[0-9]+", text := text.strip()):
        return None
    return MAX_STATED if len(text.lstrip("0")) > 18 else int(text[-18:])


class RetryLaterError(ClipError):
    """A failure that names the time after which another try makes sense."""

    retry_after_s: float = 0.0


class RateLimiter:
    """Caps the bytes per second of all threads that share it; None is no cap."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at_s = 0.0
        self.block_bytes = min(MAX_BLOCK_BYTES, max(1024, (bytes_per_s or MAX_BLOCK_BYTES) // 4))

    def took(self, count: int) -> None:
        """Wait as long as `count` bytes cost."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            now_s = time.monotonic()
            self._free_at_s = max(self._free_at_s, now_s) + count / self._bytes_per_s
            pause_s = self._free_at_s - now_s
        time.sleep(pause_s)


class Limits:
    """The bounds of one source's download, from its first request to its last retry.

    As a context manager it lets go of the connections that it watches.
    """

    def __init__(
        self,
        settings: FetchSettings,
        rate: RateLimiter,
        stop: threading.Event | None = None,
        left_s: float | None = None,
    ) -> None:
        """`left_s` is the time left where it is less than the settings' `timeout_s`."""
        self.settings = settings
        self.rate = rate
        self._stop = stop or threading.Event()
        self._deadline_s = time.monotonic() + (left_s or settings.timeout_s)
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            while self._connections:
                self._connections.pop().close()

    def watch(self, connection: socket.socket) -> None:
        """Shut a connection down when the time is over; `connection` is a duplicate to own.

        A server that sends a byte now and then never meets a time limit on single reads, and
        what reads its head asks nobody whether to go on.
        """
        with self._lock:
            self._connections.append(connection)
            if self._timer is None:
                left_s = max(0.0, self._deadline_s - time.monotonic())
                self._timer = threading.Timer(left_s + 0.01, self._shut_down)
                self._timer.daemon = True
                self._timer.start()

    def _shut_down(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # it is closed already
                    connection.shutdown(socket.SHUT_RDWR)

    def remaining_s(self) -> float:
        """Return the time left; raises ClipError (timeout) when there is none."""
        if self._stop.is_set():
            raise CancelledError
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise ClipError(Reason.TIMEOUT, f"not complete after {self.settings.timeout_s:g} s")
        return left_s

    def check_size(self, count: int) -> None:
        """Raise ClipError (too_large) if a source of `count` bytes is more than is allowed."""
        if count > self.settings.max_bytes:
            raise ClipError(
                Reason.TOO_LARGE, f"{count} bytes or more, max_bytes is {self.settings.max_bytes}"
            )

    def retrying(self, attempt: Callable[[], T]) -> T:
        """Return `attempt()`, tried again with growing pauses while it fails for passing reasons.

        A site that limits the rate is left to pause.py, for it concerns all workers.
        Pause k (from 0) lasts backoff_s * 2**k, or as long as the server asks for. If that is past
        the time left, the failure stands.
        """
        tries = 0
        while True:
            try:
                return attempt()
            except ClipError as error:
                if error.reason is Reason.RATE_LIMITED:
                    raise
                tries += 1
                if error.reason not in TRANSIENT or tries > self.settings.retries:
                    raise _after(error, tries) from None
                pause_s = self.settings.backoff_s * 2 ** (tries - 1)
                if isinstance(error, RetryLaterError):
                    pause_s = max(pause_s, error.retry_after_s)
                if pause_s >= self._deadline_s - time.monotonic():
                    raise _after(error, tries) from None
                self.pause(pause_s)

    def pause(self, pause_s: float) -> None:
        """Sleep, unless the download is called off."""
        if self._stop.wait(pause_s):
            raise CancelledError


def _after(error: ClipError, tries: int) -> ClipError:
    return error if tries == 1 else ClipError(error.reason, f"{error.detail} (tried {tries} times)")
