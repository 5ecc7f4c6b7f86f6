"""Pauses of all workers when a site refuses one of them: too many requests, or a check for bots.

What is known of a site lies in the run's folder as media/.pause/SITE.json, so that workers on other
machines see it. A refusal begins a pause; one that comes after a pause begins a longer one; an
answer ends the row. Two workers that write at once cost at most a pause of the shorter length.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from avdata.config import FetchSettings
from avdata.errors import ClipError, Reason
from avdata.seeding import keyed_fraction
from avdata.sources.limits import RetryLaterError
from avdata.store import Store
from avdata.strict import digest

logger = logging.getLogger(__name__)

REFUSALS = (Reason.RATE_LIMITED, Reason.BOT_CHECK)
LOOK_S = 5.0  # how often a worker that waits looks whether the pause was made longer
ALONE = 5  # refusals of a source between which the site answers others: it is the source
SPREAD = 0.1  # share of a pause over which the workers come back


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a site; times are seconds since 1970."""

    since_s: float = 0.0  # first refusal of the row
    until_s: float = 0.0  # end of the last pause
    length_s: float = 0.0  # of the last pause; 0: the site answers
    answered_s: float = 0.0  # last answer after a refusal

    def in_a_row(self, now_s: float) -> bool:
        """Tell whether a refusal now follows the last pause, rather than begins a new row."""
        return self.length_s > 0 and now_s - self.until_s <= max(60.0, self.length_s)


class Pause:
    """The pauses of one site, as one source meets them."""

    def __init__(self, store: Store, url: str, settings: FetchSettings, stop: threading.Event):
        self.site = (urlsplit(url).hostname or "").removeprefix("www.").removeprefix("m.")
        self._path = f"media/.pause/{digest(self.site)}.json"
        self._store = store
        self._settings = settings
        self._stop = stop
        self._spread = SPREAD * keyed_fraction(0, "pause", url)
        self._refused_s = 0.0  # when this source was refused first
        self._refusals = 0
        self._seen = False

    def wait(self) -> None:
        """Return when no pause is on; raises CancelledError if the fetch is called off."""
        while True:
            known = self._known()
            self._seen = known.length_s > 0
            left_s = known.until_s + self._spread * known.length_s - time.time()
            if left_s <= 0:
                return
            if self._stop.wait(min(left_s, LOOK_S)):
                raise CancelledError

    def after(self, error: ClipError) -> bool:
        """Tell whether to wait and try again after `error`; a refusal begins a pause for all.

        Not after pauses of `pause_total_s` in a row, and not if the site refuses this source
        again and again and meanwhile answers others.
        """
        if error.reason not in REFUSALS or not self._settings.pause_total_s:
            return False
        now_s, known = time.time(), self._known()
        self._refused_s = self._refused_s or now_s
        self._refusals += 1
        if known.answered_s > self._refused_s and self._refusals >= ALONE:
            return False
        if known.until_s > now_s:  # somebody else was refused before
            return True
        since_s = known.since_s if known.in_a_row(now_s) else now_s
        left_s = since_s + self._settings.pause_total_s - now_s
        asked_s = error.retry_after_s if isinstance(error, RetryLaterError) else 0.0
        if left_s <= 0 or asked_s > left_s:
            return False
        length_s = max(self._settings.pause_s, asked_s)
        if known.in_a_row(now_s):
            length_s = max(length_s, 2 * known.length_s)
        length_s = min(length_s, left_s)
        logger.warning(
            "%s: %s; all workers leave this site alone for %.0f s (for at most %.0f s in a row, "
            "see steps.fetch.pause_total_s)",
            *(self.site, error.detail, length_s, self._settings.pause_total_s),
        )
        self._write(_Known(since_s, now_s + length_s, length_s, known.answered_s))
        return True

    def answered(self) -> None:
        """Say that the site gave what it was asked for: the row is over."""
        if self._seen or self._refusals:
            self._write(_Known(answered_s=time.time()))

    def _known(self) -> _Known:
        try:
            return _Known(**json.loads(self._store.read_bytes(self._path)))
        except (FileNotFoundError, ValueError, TypeError):
            return _Known()

    def _write(self, known: _Known) -> None:
        self._store.write_bytes(self._path, json.dumps(asdict(known)).encode())
