"""What yt-dlp's failures mean: its exceptions and the sites' own words, to reason codes."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import (
    ContentTooShortError,
    GeoRestrictedError,
    UnsupportedError,
    YoutubeDLError,
)

from avdata.errors import ClipError, Reason, StoreError
from avdata.sources.http import reason_of_status

_PHRASES: tuple[tuple[Reason, str], ...] = (
    (Reason.BOT_CHECK, r"not a (?:bot|robot)|captcha|anti-bot|unusual traffic"),
    (Reason.RATE_LIMITED, r"rate.?limited?\b|too many requests"),
    (
        Reason.LOGIN_REQUIRED,
        r"confirm your age|age.restricted|members.only|this channel's members|logged.in|log ?in to"
        r"|only available for registered|requires? (?:payment|purchase|a subscription)|password"
        r"|account (?:is )?required|Music Premium",
    ),
    (
        Reason.PRIVATE,
        r"private (?:video|album|track|clip)|(?:video|track|account|profile) is private",
    ),
    (
        Reason.GEO_BLOCKED,
        r"(?:available|blocked\b.*) (?:in|from|for) your (?:country|region|location|area)"
        r"|geo.?(?:restrict|block)|in your country|not available from your location",
    ),
    (
        Reason.REMOVED,
        r"(?:been|was) (?:removed|deleted|terminated|taken down)|no longer (?:available|exists?)"
        r"|(?:video|post|content|clip) (?:is|was) (?:removed|deleted)|copyright claim"
        r"|closed their YouTube account|account .*terminated",
    ),
    (
        Reason.UNSUPPORTED_URL,
        r"Unsupported URL|DRM.protected|live event|will begin in|Premieres in",
    ),
    (Reason.UNSUPPORTED_URL, r"Requested format is not available|No video formats found"),
    (
        Reason.NOT_FOUND,
        r"(?:video|page|this content) (?:is )?(?:unavailable|not found|does(?: not|n't) exist)"
        r"|(?:video|content) (?:is not|isn't) available|not found|does not exist"
        r"|Incomplete YouTube ID",
    ),
    (Reason.STALLED, r"timed out|timeout"),
    (Reason.EMPTY, r"file is empty|did not get any data blocks"),
)
"""Read in this order: the narrower meaning stands before the wider one."""

_TRANSPORT_PHRASES = (
    (Reason.TIMEOUT, r"connect(?:ion)? (?:to .*)?timed out|connect timeout"),
    (Reason.STALLED, r"timed out|timeout"),
    (Reason.INCOMPLETE, r"broken|reset|aborted|closed"),
)

_STATUS = re.compile(r"HTTP Error (\d{3})")
_PREFIX = re.compile(r"^(?:\x1b\[[\d;]*m|ERROR:|\s)+")
_ADVICE = re.compile(
    r"\s*(?:;? ?please report this issue on|Confirm you are on the latest version|\(caused by )"
    r".*",
    re.S,
)


def explained(error: BaseException) -> ClipError:
    """Return the ClipError that stands for what yt-dlp raised.

    Raises StoreError when the disk is full or may not be written: no fault of the source.
    """
    detail = _ADVICE.sub("", _PREFIX.sub("", str(error))) or type(error).__name__
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, ClipError):
            return cause
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StoreError(f"cannot write what yt-dlp brings: {cause}") from error
    if "unable to write data" in detail or "unable to open for writing" in detail:
        raise StoreError(f"cannot write what yt-dlp brings: {detail}") from error
    if any(isinstance(cause, GeoRestrictedError) for cause in chain):
        return ClipError(Reason.GEO_BLOCKED, detail)
    if any(isinstance(cause, UnsupportedError) for cause in chain):
        return ClipError(Reason.UNSUPPORTED_URL, detail)
    if not isinstance(error, YoutubeDLError):
        return ClipError(
            Reason.UNSUPPORTED_URL,
            f"yt-dlp cannot read what the site sent: {type(error).__name__}: {detail}",
        )
    return ClipError(_wire_reason(chain, detail) or _said_reason(detail), detail)


def _wire_reason(chain: list[BaseException], detail: str) -> Reason | None:
    """Return the reason if the network or the HTTP status tells it."""
    for cause in chain:
        if isinstance(cause, HTTPError):
            reason = reason_of_status(cause.status)
            said = _said_reason(detail)  # a 403 page may say more than its status does
            return said if said in (Reason.BOT_CHECK, Reason.GEO_BLOCKED) else reason
        if isinstance(cause, IncompleteRead | ContentTooShortError):
            return Reason.INCOMPLETE
    for cause in chain:
        if isinstance(cause, TransportError):
            return _transport_reason(str(cause))
    if status := _STATUS.search(detail):
        return reason_of_status(int(status[1]))
    return None


def _transport_reason(message: str) -> Reason:
    for reason, phrase in _TRANSPORT_PHRASES:
        if re.search(phrase, message, re.I):
            return reason
    return Reason.CONNECTION


def _said_reason(detail: str) -> Reason:
    plain = detail.replace("’", "'")
    for reason, phrase in _PHRASES:
        if re.search(phrase, plain, re.I):
            return reason
    return Reason.HTTP_ERROR


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that led to it, the way yt-dlp keeps it and the way Python does."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending += [current.__cause__, current.__context__]
        if isinstance(current, YoutubeDLError):
            pending.append(getattr(current, "cause", None))
            pending += [e for e in getattr(current, "exc_info", None) or () if _is_error(e)]


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)
