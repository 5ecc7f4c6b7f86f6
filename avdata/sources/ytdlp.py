"""yt-dlp as a library: video sites, HLS and DASH, with our bounds around its network access.

Runs in a child process (ytdlp_child.py), because it cannot be interrupted: a server that sends a
byte now and then holds it, or the ffmpeg that it started, for ever.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import CancelledError
from fractions import Fraction
from pathlib import Path
from typing import Any

import yt_dlp
from yt_dlp import plugins
from yt_dlp.downloader import FFmpegFD, get_suitable_downloader
from yt_dlp.globals import all_plugins_loaded
from yt_dlp.postprocessor import FFmpegPostProcessor

from avdata.config import FetchSettings
from avdata.errors import AvdataError, ClipError, Reason, SettingsError
from avdata.media.container import DEMUXERS, ffmpeg_binary, probe
from avdata.sources import Fetched, require_web
from avdata.sources.limits import Limits, stated_number
from avdata.sources.section import on_whole_timeline
from avdata.sources.ytdlp_errors import explained
from avdata.store import sha256_file

MAX_PAGE_BYTES = 64 * 2**20
"""No page, playlist or player script is larger; bodies of media are read in blocks instead."""

PROTOCOLS = frozenset({"http", "https", "m3u8", "m3u8_native", "http_dash_segments"})

# Plugins are other people's code from the working folder or the home: none is loaded unnamed.
all_plugins_loaded.value = True


_loaded: set[str] = set()


def load_plugins(names: Collection[str]) -> None:
    """Load the plugins of these names, the modules in yt_dlp_plugins.extractor and .postprocessor.

    Does nothing for those that are loaded. Raises SettingsError for one that is not installed.
    """
    if _loaded.issuperset(names):
        return
    found: set[str] = set()

    def named(package: str) -> Iterator[Any]:
        for entry in find_modules(package):
            name = entry[1].rpartition(".")[2]
            if name in names:
                found.add(name)
                yield entry

    _loaded.update(names)
    find_modules, plugins.iter_modules = plugins.iter_modules, named
    try:
        plugins.load_all_plugins()
    finally:
        plugins.iter_modules = find_modules
    if missing := sorted(set(names) - found):
        raise SettingsError(
            f"steps.fetch.ytdlp_plugins: no plugin of yt-dlp is called {', '.join(missing)}; "
            "give the names of modules in yt_dlp_plugins/extractor of what you installed"
        )


def is_known_site(url: str) -> bool:
    """Tell whether yt-dlp has an extractor for this site (the generic one aside)."""
    return any(
        extractor.ie_key() != "Generic" and extractor.suitable(url)
        for extractor in yt_dlp.extractor.gen_extractor_classes()
    )


def fetch(
    url: str,
    folder: Path,
    settings: FetchSettings,
    limits: Limits,
    section_ms: tuple[int, int] | None = None,
) -> Fetched:
    """Download the one video behind `url` into `folder`, going on where an earlier call stopped.

    With `section_ms` only that span is downloaded, where the site allows, and comes on the
    timeline of the whole video. Raises ClipError with the reason for everything that goes wrong.
    """

    path = limits.retrying(lambda: _attempt(url, folder, settings, limits, section_ms))
    limits.check_size(path.stat().st_size)
    return Fetched(path, sha256_file(path), path.suffix.lower())


def _attempt(
    url: str,
    folder: Path,
    settings: FetchSettings,
    limits: Limits,
    section_ms: tuple[int, int] | None,
) -> Path:
    parameters = _parameters(folder, settings, limits)
    if section_ms is not None:
        span_s = tuple(t / 1000 for t in section_ms)
        parameters["download_ranges"] = yt_dlp.utils.download_range_func(None, [span_s])
        parameters["force_keyframes_at_cuts"] = True
        # Whether sections are possible is asked of this variable, not of ffmpeg_location.
        FFmpegPostProcessor._ffmpeg_location.set(ffmpeg_binary())
    with yt_dlp.YoutubeDL(parameters) as downloader:
        bounds = _Bounds(downloader, limits)
        try:
            downloader.extract_info(url, download=True)
        except (ClipError, AvdataError, CancelledError):
            raise
        except Exception as error:  # whatever a stranger's page makes of yt-dlp's parsers
            raise explained(error) from None
    if bounds.path is None:
        raise ClipError(Reason.UNSUPPORTED_URL, "yt-dlp found no video behind this URL")
    if section_ms is not None and bounds.is_section:
        return on_whole_timeline(bounds.path, Fraction(section_ms[0], 1000))
    return bounds.path


class _Bounds:
    """Makes a YoutubeDL open http(s) only, take one video, and keep to the limits.

    All that yt-dlp itself reads from the network goes through its `urlopen`, and all that it
    downloads through its `process_info`, so these are the two places where bounds are set.
    """

    def __init__(self, downloader: Any, limits: Limits) -> None:
        self.path: Path | None = None
        self.is_section = False
        self._parameters = downloader.params
        self._limits = limits
        self._received = 0
        self._urlopen, downloader.urlopen = downloader.urlopen, self.urlopen
        self._process_info, downloader.process_info = downloader.process_info, self.process_info

    def urlopen(self, request: Any) -> Any:
        require_web(request if isinstance(request, str) else request.url, "the site")
        self._limits.remaining_s()
        response = self._urlopen(request)
        require_web(response.url, "a redirect")
        self._limits.check_size(stated_number(response.headers.get("Content-Length", "")) or 0)
        response.read = self._bounded(response.read)
        return response

    def _bounded(self, read: Callable[[int], bytes]) -> Callable[..., bytes]:
        def block(amount: int) -> bytes:
            self._limits.remaining_s()
            data = read(amount)
            self._received += len(data)
            self._limits.check_size(self._received)
            self._limits.rate.took(len(data))
            return data

        def bounded(amount: int | None = None) -> bytes:
            if amount is not None:
                return block(min(amount, self._limits.rate.block_bytes))
            whole = bytearray()
            while data := block(self._limits.rate.block_bytes):
                whole += data
                if len(whole) > MAX_PAGE_BYTES:
                    raise ClipError(Reason.TOO_LARGE, f"a page of over {MAX_PAGE_BYTES} bytes")
            return bytes(whole)

        return bounded

    def process_info(self, info: dict[str, Any]) -> None:
        if (info.get("n_entries") or 1) > 1:
            raise ClipError(
                Reason.UNSUPPORTED_URL, "several videos behind this URL; give each its own row"
            )
        if info.get("is_live") or info.get("live_status") == "is_live":
            raise ClipError(Reason.UNSUPPORTED_URL, "a live stream has no end to fetch")
        for part in info.get("requested_formats") or [info]:
            protocol = yt_dlp.utils.determine_protocol(part)
            if protocol not in PROTOCOLS:
                raise ClipError(
                    Reason.FORBIDDEN_PROTOCOL, f"the video comes by {protocol}, not by http(s)"
                )
            require_web(part["url"], "the video")
        # ffmpeg downloads sections; any other downloader brings the whole.
        self.is_section = get_suitable_downloader({**info}, self._parameters) is FFmpegFD
        self._process_info(info)
        if info.get("filepath"):
            self.path = Path(info["filepath"])


class _Silent:
    """A logger for yt-dlp: what matters comes as an exception."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def _verify_part(progress: Mapping[str, Any]) -> None:
    """Probe each downloaded stream before yt-dlp hands it to ffmpeg and ffprobe for merging."""
    if progress["status"] == "finished":
        probe(Path(progress["filename"]))


def _parameters(folder: Path, settings: FetchSettings, limits: Limits) -> dict[str, Any]:
    def pause_s(n: int) -> float:
        return min(settings.backoff_s * 2.0**n, limits.remaining_s())

    stall_us = str(round(settings.stall_timeout_s * 1e6))
    return {
        "quiet": True,
        "noprogress": True,
        "color": "never",
        "logger": _Silent(),
        "cachedir": False,
        "enable_file_urls": False,
        "geo_bypass": False,
        "noplaylist": True,
        "playlist_items": "1:2",  # enough to see that there is more than one
        "paths": {"home": str(folder)},
        "outtmpl": {"default": "media-%(format_id).60B.%(ext)s"},
        "format": _format(settings.max_height_px),
        "format_sort": ["res", "fps", "vcodec:h264", "acodec:aac"],
        "merge_output_format": "mp4/mkv",
        "fixup": "never",
        "updatetime": False,
        "hls_prefer_native": True,
        "skip_unavailable_fragments": False,
        "retries": settings.retries,
        "fragment_retries": settings.retries,
        "extractor_retries": settings.retries,
        "retry_sleep_functions": {"http": pause_s, "fragment": pause_s, "extractor": pause_s},
        "socket_timeout": settings.stall_timeout_s,
        "proxy": settings.proxy,
        "cookiefile": _cookies(settings.cookies_file),
        "cookiesfrombrowser": _browser(settings.cookies_from_browser),
        "extractor_args": {
            site: {name: list(values) for name, values in arguments.items()}
            for site, arguments in settings.extractor_args.items()
        },
        "ffmpeg_location": ffmpeg_binary(),
        "progress_hooks": [_verify_part],
        # As for every ffmpeg here: no playlist or script may name further files.
        "postprocessor_args": {
            "merger+ffmpeg_i": ["-protocol_whitelist", "file", "-format_whitelist", DEMUXERS]
        },
        # ffmpeg downloads sections itself: http(s) only, with the same bounds.
        "external_downloader_args": {
            "ffmpeg_i": [
                *("-protocol_whitelist", "http,https,httpproxy,tcp,tls,crypto"),
                *("-rw_timeout", stall_us),
            ],
            "ffmpeg_o": ["-fs", str(settings.max_bytes + 1)],
        },
    }


def _format(max_height_px: int | None) -> str:
    """Return yt-dlp's format choice: the best up to the height, else the smallest there is."""
    if max_height_px is None:
        return "bv*+ba/b/bv*/ba"
    low = f"[height<=?{max_height_px}]"
    return f"bv*{low}+ba/b{low}/wv*+ba/w/bv*{low}/wv*/ba"


def _cookies(path: str | None) -> io.StringIO | None:
    """Return the cookies as a stream: yt-dlp writes a cookies file back, which is the user's."""
    return io.StringIO(Path(path).read_text(encoding="utf-8")) if path else None


def _browser(name: str | None) -> tuple[str, str | None, None, None] | None:
    """Return BROWSER or BROWSER:PROFILE as yt-dlp wants it."""
    if name is None:
        return None
    browser, _, profile = name.partition(":")
    return browser, profile or None, None, None
