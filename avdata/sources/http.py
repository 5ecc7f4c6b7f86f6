"""Plain HTTP: one file per URL, streamed, hashed on the way, resumed by Range."""

from __future__ import annotations

import re
import time
import urllib.request
from email.utils import parsedate_to_datetime
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
)

from avdata.config import FetchSettings
from avdata.errors import ClipError, Reason, SettingsError
from avdata.sources import Fetched, media_suffix, require_web
from avdata.sources.connections import watchable, watched_by
from avdata.sources.limits import Limits, RetryLaterError, stated_number
from avdata.sources.partial import PartialFile, Version

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

USER_AGENT = "Mozilla/5.0 (compatible; avdata)"
MAX_REDIRECTS = 10
PAGE_HEAD_BYTES = 1024

_REDIRECTS = (301, 302, 303, 307, 308)
_REASONS = {
    401: Reason.LOGIN_REQUIRED,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    408: Reason.TIMEOUT,
    410: Reason.REMOVED,
    425: Reason.RATE_LIMITED,
    429: Reason.RATE_LIMITED,
    451: Reason.GEO_BLOCKED,
}
_SUFFIX_OF_TYPE = {
    "audio/mpeg": ".mp3",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/flac": ".flac",
    "video/mp4": ".mp4",
    "video/mp2t": ".ts",
    "video/ogg": ".ogv",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}


class NotDirectError(Exception):
    """The URL leads to a page or a playlist, not to a media file."""


def reason_of_status(status: int) -> Reason:
    """Return the reason that an HTTP status of 400 or more stands for."""
    return _REASONS.get(status, Reason.SERVER_ERROR if status >= 500 else Reason.HTTP_ERROR)


def is_page(head: bytes) -> bool:
    """Tell whether a body begins like an HTML page."""
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    return bool(re.match(r"<!doctype html|<html|<head|<body|<!--", text, re.I))


class HttpSource:
    """Downloads files over HTTP(S); one instance serves all threads of a worker."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._cookies = load_cookies(settings.cookies_file)
        self._pools: dict[str, urllib3.PoolManager] = {}

    def fetch(self, url: str, folder: Path, limits: Limits, direct_only: bool = False) -> Fetched:
        """Download `url` into `folder`, going on where an earlier call stopped.

        With `direct_only`, raises NotDirectError for what is not sent as audio or video. Raises
        ClipError with the reason for everything that goes wrong.
        """
        partial = PartialFile(folder / "body")
        try:
            suffix = limits.retrying(lambda: self._attempt(url, partial, limits, direct_only))
        finally:
            partial.close()
        if partial.size == 0:
            raise ClipError(Reason.EMPTY, "the server sent no bytes")
        return Fetched(partial.path, partial.sha256, suffix)

    def _attempt(self, url: str, partial: PartialFile, limits: Limits, direct_only: bool) -> str:
        """Bring `partial` to its end and return the suffix; the file on disk keeps what came."""
        for _ in range(2):  # the second time without Range, if what was there is of no use
            response = self._open(url, partial.range_headers(), limits)
            try:
                version = Version.of(response.headers)
                if response.status == 416 and partial.is_whole(version):
                    return media_suffix(url)
                if response.status == 206 and partial.goes_on_with(version):
                    self._receive(response, partial, limits, direct_only)
                elif response.status in (206, 416):
                    partial.discard()
                    continue
                elif response.status in (200, 203):
                    limits.check_size(version.total or 0)
                    if direct_only:
                        _require_direct(response)
                    partial.start(version)
                    self._receive(response, partial, limits, direct_only)
                else:
                    raise _refused(response)
                return media_suffix(url) or _suffix_of_type(response)
            finally:
                response.close()
        raise ClipError(Reason.HTTP_ERROR, "the server answers part of a file to a whole request")

    def _receive(
        self, response: BaseHTTPResponse, partial: PartialFile, limits: Limits, direct_only: bool
    ) -> None:
        """Write the body behind what `partial` holds."""
        at_start = partial.size == 0
        while True:
            limits.remaining_s()
            try:
                # read1 gives what has come: a slow server is neither stalled nor unseen.
                block = response.read1(limits.rate.block_bytes, decode_content=True)
            except ReadTimeoutError:
                limits.remaining_s()
                raise ClipError(
                    Reason.STALLED,
                    f"no new byte for {self._settings.stall_timeout_s:g} s, {partial} so far",
                ) from None
            except (HTTPError, OSError) as error:
                limits.remaining_s()
                raise ClipError(
                    Reason.INCOMPLETE, f"the connection broke, {partial} so far: {error}"
                ) from None
            if not block:
                limits.remaining_s()  # or else it was not the server that ended it
                return
            if at_start:
                at_start = False
                _require_no_page(block[:PAGE_HEAD_BYTES], direct_only)
            partial.append(block)
            limits.check_size(partial.size)
            limits.rate.took(len(block))

    def _open(self, url: str, headers: dict[str, str], limits: Limits) -> BaseHTTPResponse:
        """Return the answer to a GET, redirects followed to http(s) only."""
        for _ in range(MAX_REDIRECTS + 1):
            response = self._request(url, headers, limits)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            try:
                url = urljoin(url, location)
                require_web(url, "a redirect")
            except ValueError as error:
                detail = f"a redirect to what is no address: {error}"
                raise ClipError(Reason.HTTP_ERROR, detail) from None
        raise ClipError(Reason.HTTP_ERROR, f"more than {MAX_REDIRECTS} redirects")

    def _request(self, url: str, headers: dict[str, str], limits: Limits) -> BaseHTTPResponse:
        timeout = urllib3.Timeout(
            connect=min(self._settings.connect_timeout_s, limits.remaining_s()),
            read=min(self._settings.stall_timeout_s, limits.remaining_s()),
        )
        try:
            with watched_by(limits):
                return self._pool_for(url).request(
                    "GET",
                    url,
                    headers={**self._headers_for(url), **headers},
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    timeout=timeout,
                )
        except ValueError as error:
            raise ClipError(Reason.BAD_URL, f"{url[:200]!r}: {error}") from None
        except (HTTPError, OSError) as error:
            limits.remaining_s()
            raise _no_answer(error) from None

    def _pool_for(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._settings.proxy
        if proxy is None and not urllib.request.proxy_bypass(parts.hostname or ""):
            environment = urllib.request.getproxies()
            proxy = environment.get(parts.scheme) or environment.get("all")
        proxy = proxy or ""
        if proxy not in self._pools:
            self._pools[proxy] = _make_pool(proxy, self._settings.downloads)
        return self._pools[proxy]

    def _headers_for(self, url: str) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
        userinfo = urlsplit(url).netloc.rpartition("@")[0]
        if userinfo:
            headers.update(urllib3.make_headers(basic_auth=unquote(userinfo)))
        if self._cookies is not None:
            request = urllib.request.Request(url)
            self._cookies.add_cookie_header(request)
            if cookie := request.get_header("Cookie"):
                headers["Cookie"] = cookie
        return headers


def load_cookies(path: str | None) -> MozillaCookieJar | None:
    """Read a Netscape cookies file; raises SettingsError if it cannot be used."""
    if path is None:
        return None
    jar = MozillaCookieJar(path)
    try:
        jar.load(ignore_discard=True, ignore_expires=True)
    except (OSError, LoadError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"steps.fetch.cookies_file: {path} is not a cookies file: {error}"
        ) from None
    for cookie in jar:
        if cookie.expires == 0:  # how browsers' exports write "until the session ends"
            cookie.expires, cookie.discard = None, True
    return jar


def _make_pool(proxy: str, connections: int) -> urllib3.PoolManager:
    if not proxy:
        return watchable(urllib3.PoolManager(maxsize=connections))
    try:
        if proxy.startswith("socks"):
            from urllib3.contrib.socks import SOCKSProxyManager

            return watchable(SOCKSProxyManager(proxy, maxsize=connections))
        return watchable(urllib3.ProxyManager(proxy, maxsize=connections))
    except (ImportError, HTTPError) as error:
        raise SettingsError(f"steps.fetch.proxy: cannot use {proxy!r}: {error}") from None


def _no_answer(error: Exception) -> ClipError:
    # A connection that is refused counts as a ConnectTimeoutError in urllib3.
    timed_out = isinstance(error, ConnectTimeoutError | ReadTimeoutError)
    if timed_out and not isinstance(error, NewConnectionError):
        return ClipError(Reason.TIMEOUT, f"no answer: {error}")
    return ClipError(Reason.CONNECTION, f"no connection: {error}")


def _refused(response: BaseHTTPResponse) -> ClipError:
    reason = reason_of_status(response.status)
    error = RetryLaterError(reason, f"HTTP {response.status} {response.reason or ''}".rstrip())
    error.retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""))
    return error


def _retry_after_s(header: str) -> float:
    """Return the seconds a Retry-After header (seconds or a date) asks for, 0 for none."""
    if (seconds := stated_number(header)) is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def _require_direct(response: BaseHTTPResponse) -> None:
    kind = _content_type(response)
    if not kind.startswith(("audio/", "video/")) and kind not in (
        "application/octet-stream",
        "application/mp4",
        "application/ogg",
    ):
        raise NotDirectError
    if "mpegurl" in kind:
        raise NotDirectError


def _require_no_page(head: bytes, direct_only: bool) -> None:
    if direct_only and (is_page(head) or head.lstrip()[:7] in (b"#EXTM3U", b"<?xml v")):
        raise NotDirectError
    if is_page(head):
        raise ClipError(Reason.NOT_MEDIA, "the server sent an HTML page, not a video")


def _content_type(response: BaseHTTPResponse) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _suffix_of_type(response: BaseHTTPResponse) -> str:
    return _SUFFIX_OF_TYPE.get(_content_type(response), "")
