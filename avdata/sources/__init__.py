"""Where videos come from: plain HTTP, the sites yt-dlp knows, local files.

What may be opened is decided here, from the text of the URL alone: http and https, and local
paths. Everything else (file:, concat:, subfile:, data:, pipe:, ftp:, ...) is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from avdata.errors import ClipError, Reason

WEB_SCHEMES = ("http", "https")

MEDIA_SUFFIXES = frozenset(
    {
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"),
        *(".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"),
    }
)
"""Suffixes of files that hold their media themselves (no playlists)."""

PLAYLIST_SUFFIXES = frozenset({".m3u8", ".mpd"})
"""Suffixes of playlists, which are left to yt-dlp."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file on this machine that a source has brought, not yet verified."""

    path: Path
    sha256: str
    suffix: str  # with the dot; "" when unknown


def is_web(url: str) -> bool:
    """Tell whether `url` is http(s) (true) or a local path (false).

    Raises ClipError (forbidden_protocol) for any other protocol.
    """
    scheme = _SCHEME.match(url)
    if scheme is None:
        return False
    if scheme[1].lower() not in WEB_SCHEMES or not url[scheme.end() :].startswith("//"):
        raise ClipError(
            Reason.FORBIDDEN_PROTOCOL,
            f"{scheme[1]}: is not allowed, only http(s) and local paths are; "
            f"if {url[:80]!r} is a file's name, put ./ before it",
        )
    return True


def require_web(url: str, where: str) -> None:
    """Raise ClipError (forbidden_protocol) unless `url` is http(s); `where` says who named it."""
    if urlsplit(url).scheme.lower() not in WEB_SCHEMES:
        raise ClipError(
            Reason.FORBIDDEN_PROTOCOL, f"{where} leads to {url[:200]!r}, which is not http(s)"
        )


def canonical_url(url: str) -> str:
    """Return an http(s) URL in one spelling: no fragment, no default port, lower-case host.

    Raises ClipError (bad_url).
    """
    try:
        parts = urlsplit(url.strip())
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise ClipError(Reason.BAD_URL, f"{url[:200]!r}: {error}") from None
    if not host:
        raise ClipError(Reason.BAD_URL, f"{url[:200]!r} names no host")
    userinfo = parts.netloc.rpartition("@")[0]
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        place += f":{port}"
    if userinfo:
        place = f"{userinfo}@{place}"
    return urlunsplit((scheme, place, parts.path or "/", parts.query, ""))


def media_suffix(url: str) -> str:
    """Return the media suffix of a URL's or file's path (`.mp4` for x.MP4?sig=1), else ''."""
    suffix = _suffix(url)
    return suffix if suffix in MEDIA_SUFFIXES else ""


def is_playlist(url: str) -> bool:
    """Tell whether the URL's path ends like a playlist's."""
    return _suffix(url) in PLAYLIST_SUFFIXES


def _suffix(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).suffix.lower()
