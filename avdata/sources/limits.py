"""What bounds a download: time, bytes, rate, tries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TypeVar

from avdata.config import FetchSettings
from avdata.errors import TRANSIENT, ClipError, Reason

T = TypeVar("T")

MAX_BLOCK_BYTES = 1 << 20


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
    """The bounds of one source's download, from its first request to its last retry."""

    def __init__(
        self, settings: FetchSettings, rate: RateLimiter, stop: threading.Event | None = None
    ) -> None:
        self.settings = settings
        self.rate = rate
        self._stop = stop or threading.Event()
        self._deadline_s = time.monotonic() + settings.timeout_s

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

        Pause k (from 0) lasts backoff_s * 2**k, or as long as the server asks for. If that is past
        the time left, the failure stands.
        """
        tries = 0
        while True:
            try:
                return attempt()
            except ClipError as error:
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
