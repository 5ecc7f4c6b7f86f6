"""Reason codes from yt-dlp's exceptions and the sites' own words."""

from __future__ import annotations

import pytest
from yt_dlp.networking.exceptions import CertificateVerifyError, IncompleteRead, TransportError
from yt_dlp.utils import (
    ContentTooShortError,
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnsupportedError,
)

from avdata.errors import ClipError, Reason, StoreError
from avdata.sources.ytdlp_errors import explained

SAID = [
    (
        Reason.PRIVATE,
        "[youtube] a: Private video. Sign in if you've been granted access to this video",
    ),
    (Reason.PRIVATE, "[soundcloud] This track is private"),
    (Reason.REMOVED, "[youtube] a: Video unavailable. This video has been removed by the uploader"),
    (
        Reason.REMOVED,
        "[youtube] a: This video has been removed for violating YouTube's policy on hate speech",
    ),
    (
        Reason.REMOVED,
        "[youtube] a: Video unavailable. This video is no longer available because the YouTube "
        "account associated with this video has been terminated.",
    ),
    (
        Reason.REMOVED,
        "[youtube] a: Video unavailable. This video is no longer available due to a copyright "
        "claim by X",
    ),
    (Reason.NOT_FOUND, "[youtube] a: Video unavailable"),
    (Reason.NOT_FOUND, "[youtube] a: Video unavailable. This video is not available"),
    (Reason.NOT_FOUND, "[youtube:truncated_id] a: Incomplete YouTube ID a. URL looks truncated."),
    (
        Reason.GEO_BLOCKED,
        "[youtube] a: Video unavailable. The uploader has not made this video available in your "
        "country",
    ),
    (
        Reason.GEO_BLOCKED,
        "[youtube] a: Video unavailable. This video contains content from X, who has blocked it "
        "in your country on copyright grounds",
    ),
    (
        Reason.GEO_BLOCKED,
        "[x] a: This video is not available from your location due to geo restriction",
    ),
    (
        Reason.BOT_CHECK,
        "[youtube] a: Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies "
        "for the authentication.",
    ),
    (
        Reason.LOGIN_REQUIRED,
        "[youtube] a: Sign in to confirm your age. This video may be inappropriate for some users.",
    ),
    (
        Reason.LOGIN_REQUIRED,
        "[youtube] a: Join this channel to get access to members-only content like this video",
    ),
    (Reason.LOGIN_REQUIRED, "[vimeo] a: This video is protected by a password"),
    (
        Reason.RATE_LIMITED,
        "[youtube] a: Video unavailable. This content isn't available, try again later. The "
        "current session has been rate-limited by YouTube for up to an hour.",
    ),
    (Reason.UNSUPPORTED_URL, "[youtube] a: This live event will begin in 3 hours."),
    (Reason.UNSUPPORTED_URL, "[x] a: This video is DRM protected"),
    (Reason.NOT_FOUND, "unable to download video data: HTTP Error 404: Not Found"),
    (Reason.FORBIDDEN, "unable to download video data: HTTP Error 403: Forbidden"),
    (Reason.RATE_LIMITED, "[x] a: Unable to download webpage: HTTP Error 429: Too Many Requests"),
    (Reason.SERVER_ERROR, "[x] a: Unable to download webpage: HTTP Error 502: Bad Gateway"),
    (Reason.EMPTY, "The downloaded file is empty"),
    (Reason.HTTP_ERROR, "[x] a: something never seen before"),
]


@pytest.mark.parametrize(("reason", "message"), SAID)
def test_what_sites_say(reason: Reason, message: str) -> None:
    error = explained(DownloadError(f"\x1b[0;31mERROR:\x1b[0m {message}"))
    assert error.reason is reason
    assert error.detail == message


def caused_by(cause: Exception) -> DownloadError:
    """Wrap as yt-dlp does: the extractor's error inside a DownloadError's exc_info."""
    inner = ExtractorError("Unable to download webpage", cause=cause, expected=True)
    return DownloadError(f"ERROR: {inner}", (ExtractorError, inner, None))


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (Reason.STALLED, TransportError("('x', 1): Read timed out. (read timeout=2.0)")),
        (Reason.TIMEOUT, TransportError("Connection to h timed out. (connect timeout=2.0)")),
        (Reason.CONNECTION, TransportError("Failed to establish a new connection: refused")),
        (Reason.CONNECTION, TransportError("Failed to resolve 'h' (Name or service not known)")),
        (Reason.CONNECTION, CertificateVerifyError("certificate has expired")),
        (Reason.INCOMPLETE, IncompleteRead(partial=3, expected=4)),
        (Reason.INCOMPLETE, ContentTooShortError(3, 4)),
        (Reason.INCOMPLETE, TransportError("('Connection aborted.', reset by peer)")),
        (Reason.GEO_BLOCKED, GeoRestrictedError("not for you")),
        (Reason.UNSUPPORTED_URL, UnsupportedError("http://h/x")),
        (Reason.TOO_LARGE, ClipError(Reason.TOO_LARGE, "too many bytes")),
    ],
)
def test_what_the_wire_did(reason: Reason, cause: Exception) -> None:
    assert explained(caused_by(cause)).reason is reason


def test_what_yt_dlp_stumbles_over() -> None:
    error = explained(TypeError("url must be a string"))
    assert error.reason is Reason.UNSUPPORTED_URL
    assert "TypeError: url must be a string" in error.detail


def test_full_disk_is_not_the_sources_fault() -> None:
    with pytest.raises(StoreError):
        explained(caused_by(OSError(28, "No space left on device")))
    with pytest.raises(StoreError):
        explained(DownloadError("ERROR: unable to write data: [Errno 28] No space left on device"))


def test_yt_dlps_advice_is_left_out() -> None:
    bug = ExtractorError("Unable to extract title", video_id="a", ie="x")
    assert explained(DownloadError(f"ERROR: {bug}")).detail == "[x] a: Unable to extract title"
