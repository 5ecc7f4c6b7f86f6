"""Everything that can go wrong, in one place.

Two families, never mixed:

    ClipError                 one clip (or source) cannot be processed: a row with a reason
    AvdataError               the user must act: printed without a traceback, exit code 2
    ├── SettingsError         a pipeline file or --set value is wrong
    ├── ManifestError         a manifest cannot be read at all
    ├── StoreError            a path cannot be read or written (disk full, read-only, missing)
    ├── LockedError           another run works in the same folder
    ├── WeightsError          pretrained weights are missing or do not match their checksum
    ├── ShardError            shards are missing, changed or disagree with what was asked
    └── RunError              some sources crashed; what the others gave is kept

Any other exception is a bug of ours: the source it came from fails loudly (reason `crashed`, exit
code 1, tried again at every rerun) and the others finish.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Reason(StrEnum):
    """Why a clip failed or was rejected: a closed list, so that reports can count."""

    # manifest
    BAD_ROW = "bad_row"
    BAD_KEY = "bad_key"
    DUPLICATE_KEY = "duplicate_key"
    BAD_URL = "bad_url"
    # fetch: what the other side said
    REMOVED = "removed"
    PRIVATE = "private"
    GEO_BLOCKED = "geo_blocked"
    BOT_CHECK = "bot_check"
    LOGIN_REQUIRED = "login_required"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    HTTP_ERROR = "http_error"
    SERVER_ERROR = "server_error"
    RATE_LIMITED = "rate_limited"
    UNSUPPORTED_URL = "unsupported_url"
    # fetch: what the wire did
    TIMEOUT = "timeout"
    STALLED = "stalled"
    CONNECTION = "connection"
    INCOMPLETE = "incomplete"
    TOO_LARGE = "too_large"
    FORBIDDEN_PROTOCOL = "forbidden_protocol"
    # media
    NOT_MEDIA = "not_media"
    NO_AUDIO = "no_audio"
    NO_VIDEO = "no_video"
    CORRUPT = "corrupt"
    EMPTY = "empty"
    WINDOW_PAST_END = "window_past_end"
    TOO_SHORT = "too_short"
    NOT_FETCHED = "not_fetched"
    # select
    BELOW_MIN = "below_min"
    ABOVE_MAX = "above_max"
    NOT_MEASURED = "not_measured"
    NOT_LISTED = "not_listed"
    DUPLICATE_VIDEO = "duplicate_video"
    # any step: neither is the clip's own fault
    DECODER_CRASH = "decoder_crash"  # the process that worked on it died
    CRASHED = "crashed"  # a bug; the run ends with exit code 1 and a rerun tries again


TRANSIENT: frozenset[Reason] = frozenset(
    {
        Reason.SERVER_ERROR,
        Reason.RATE_LIMITED,
        Reason.TIMEOUT,
        Reason.STALLED,
        Reason.CONNECTION,
        Reason.INCOMPLETE,
    }
)
"""Reasons that go away by themselves: fetch tries again at once, after a pause."""

RETRYABLE: frozenset[Reason] = TRANSIENT | {
    Reason.BOT_CHECK,
    Reason.LOGIN_REQUIRED,
    Reason.FORBIDDEN,
    Reason.PRIVATE,
    Reason.GEO_BLOCKED,
}
"""Reasons that time, cookies or a proxy may remove: `avdata run --retry-failed` tries again."""


class ClipError(Exception):
    """One clip could not be processed; `reason` is counted, `detail` is read by a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ClipError], tuple[Reason, str]]:
        return (type(self), (self.reason, self.detail))


class AvdataError(Exception):
    """A problem only the user can solve: what failed, what was seen, what to do."""


class SettingsError(AvdataError):
    """A pipeline file, a settings value or a `--set` override is wrong."""


class ManifestError(AvdataError):
    """A manifest cannot be used at all; single bad rows are rows with a reason instead."""


class StoreError(AvdataError):
    """A path cannot be read or written."""


class LockedError(AvdataError):
    """Another run holds the output folder."""


class WeightsError(AvdataError):
    """Pretrained weights are missing or do not match their checksum."""


class ShardError(AvdataError):
    """Shards are missing, changed, or disagree with what was asked of them."""


class RunError(AvdataError):
    """Some sources of a run crashed; what finished is kept and a rerun goes on from there."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    import difflib

    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
