"""Fetch: from a URL or a path to a verified local file, once per source.

What was fetched lies in the run's folder as `media/AA/DIGEST.SUFFIX` beside `media/AA/DIGEST.json`,
which is written last and is the archive: while it is there, the source is never fetched again,
whichever manifest, part or process asks. DIGEST stands for the URL and the settings that decide
which bytes come. Unfinished downloads wait in `media/.partial/DIGEST` and are resumed.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from avdata.clip import Clip, Source, Status
from avdata.config import FetchSettings
from avdata.errors import TRANSIENT, ClipError, Reason, SettingsError
from avdata.media import probe
from avdata.parsing import parse_json
from avdata.shards.folder import SEAL, seal
from avdata.sources import Fetched, canonical_url, is_playlist, is_web, local, media_suffix
from avdata.sources.limits import Limits, RateLimiter
from avdata.sources.pause import Pause
from avdata.steps.base import PartContext, by_source
from avdata.store import Store, sha256_file
from avdata.strict import digest

if TYPE_CHECKING:
    from avdata.sources.http import HttpSource


SECTION_MARGIN_MS = 1000
"""Fetched beyond a section's ends, so that the picture shown at its first instant is there."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One source: where it comes from and under which name it is archived."""

    url: str
    web: bool
    direct: bool  # a media file by its name, so plain HTTP does
    name: str
    section_ms: tuple[int, int] | None = None  # only this span of it, where the site allows

    @property
    def base(self) -> str:
        return f"media/{self.name[:2]}/{self.name}"


class FetchStep:
    """Fetch the source of every clip; clips of one source share one download."""

    name: ClassVar[str] = "fetch"
    version: ClassVar[int] = 1
    uses_seed: ClassVar[bool] = False

    def __init__(self, settings: FetchSettings) -> None:
        if settings.cookies_file is not None and not os.path.isfile(settings.cookies_file):
            raise SettingsError(f"steps.fetch.cookies_file: no such file: {settings.cookies_file}")
        self._settings = settings
        # Parts are fetched side by side in one process: they share what the settings allow it.
        self._rate = _rate(settings.rate_limit_bytes_s)
        self._turns = _turns(settings.downloads)
        self._stop = threading.Event()

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that decide which bytes come and which are turned down."""
        s = self._settings
        return {
            "via": s.via,
            "max_height_px": s.max_height_px,
            "sections": s.sections,
            "max_bytes": s.max_bytes,
            "require_audio": s.require_audio,
            "require_video": s.require_video,
        }

    def run(self, clips: Sequence[Clip], part: PartContext) -> list[Clip]:
        """Return the clips with `source` set, or failed with the reason."""
        groups = by_source(clip for clip in clips if clip.status is Status.ACTIVE)
        if not groups:
            return list(clips)
        pool = ThreadPoolExecutor(min(self._settings.downloads, len(groups)), "fetch")
        try:
            found = list(pool.map(lambda group: self._source_or_error(group, part.store), groups))
        except BaseException:
            self._stop.set()
            # Not waited for: a stalled server may hold a thread for long.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        outcomes = {group[0].url: outcome for group, outcome in zip(groups, found, strict=True)}
        return [self._with_outcome(clip, outcomes) for clip in clips]

    def _with_outcome(self, clip: Clip, outcomes: dict[str, Source | ClipError]) -> Clip:
        if clip.status is not Status.ACTIVE:
            return clip
        outcome = outcomes[clip.url]
        if isinstance(outcome, ClipError):
            return clip.failed(self.name, outcome)
        return clip.after(self.name, source=outcome)

    def _source_or_error(self, group: Sequence[Clip], store: Store) -> Source | ClipError:
        try:
            wanted = self._wanted(group)
            source = _archived(store, wanted)
            if source is None:
                with self._turns:
                    source = self._fetched(wanted, store)
            self._require_streams(source)
            return source
        except ClipError as error:
            return error

    def _require_streams(self, source: Source) -> None:
        if self._settings.require_video and not source.video_codec:
            raise ClipError(Reason.NO_VIDEO, f"only sound in it ({source.audio_codec})")
        if self._settings.require_audio and not source.audio_codec:
            raise ClipError(Reason.NO_AUDIO, f"only pictures in it ({source.video_codec})")

    def _wanted(self, group: Sequence[Clip]) -> _Wanted:
        """Say what the clips' URL is; raises ClipError for what may not or cannot be opened."""
        url = group[0].url
        if not is_web(url):
            return _wanted_file(url)
        url, settings = canonical_url(url), self._settings
        direct = settings.via == "http" or (settings.via == "auto" and bool(media_suffix(url)))
        if direct:
            return _Wanted(url, web=True, direct=True, name=digest("web", url))
        section_ms = _section_ms(group) if settings.sections else None
        name = digest("web", url, settings.via, settings.max_height_px, section_ms)
        return _Wanted(url, web=True, direct=False, name=name, section_ms=section_ms)

    def _fetched(self, wanted: _Wanted, store: Store) -> Source:
        """Bring the source into the archive, while no other process does the same."""
        import filelock

        folder = _partial_folder(store) / wanted.name
        folder.mkdir(parents=True, exist_ok=True)
        lock_path = folder.with_name(folder.name + ".lock")
        with filelock.FileLock(lock_path):
            if source := _archived(store, wanted):
                return source
            try:
                source = self._archive(self._download(wanted, folder, store), wanted, store)
            except ClipError as error:
                if error.reason not in TRANSIENT:  # what came is of no use to another try
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)
            lock_path.unlink(missing_ok=True)  # who waits for it finds the archived source
            return source

    def _download(self, wanted: _Wanted, folder: Path, store: Store) -> Fetched:
        """Bring the file to this machine; where its site refuses all workers, wait with them."""
        if not wanted.web:
            path = Path(wanted.url)
            Limits(self._settings, self._rate).check_size(path.stat().st_size)
            probe(path)  # before its bytes enter the run
            return Fetched(path, sha256_file(path), media_suffix(path.name))
        pause = Pause(store, wanted.url, self._settings, self._stop)
        while True:
            pause.wait()
            try:
                with Limits(self._settings, self._rate, self._stop) as limits:
                    fetched = self._downloaded(wanted, folder, limits)
            except ClipError as error:
                if not pause.after(error):
                    raise
            else:
                pause.answered()
                return fetched

    def _downloaded(self, wanted: _Wanted, folder: Path, limits: Limits) -> Fetched:
        folder.mkdir(parents=True, exist_ok=True)
        if wanted.direct:
            return self._http.fetch(wanted.url, folder, limits)
        from avdata.sources import ytdlp_child

        if not (
            self._settings.via == "ytdlp"
            or is_playlist(wanted.url)
            or ytdlp_child.is_known_site(wanted.url, self._settings, limits)
        ):
            from avdata.sources.http import NotDirectError

            try:
                return self._http.fetch(wanted.url, folder, limits, direct_only=True)
            except NotDirectError:
                pass
        return ytdlp_child.fetch(wanted.url, folder, self._settings, limits, wanted.section_ms)

    @cached_property
    def _http(self) -> HttpSource:
        from avdata.sources.http import HttpSource

        return HttpSource(self._settings)

    def _archive(self, fetched: Fetched, wanted: _Wanted, store: Store) -> Source:
        """Verify the file, put it into the run's folder, then write its sidecar."""
        info = probe(fetched.path)
        source = Source(
            path=wanted.base + fetched.suffix,
            sha256=fetched.sha256,
            bytes=fetched.path.stat().st_size,
            **asdict(info),
        )
        with store.writing(source.path) as target:
            local.place(fetched.path, target, "link" if wanted.web else self._settings.local)
        sidecar = {"url": wanted.url, "source": asdict(source)}
        store.write_bytes(f"{wanted.base}.json", seal(sidecar))
        return source


@cache
def _rate(bytes_s: int | None) -> RateLimiter:
    """Return the process's limiter of the bytes that come per second."""
    return RateLimiter(bytes_s)


@cache
def _turns(downloads: int) -> threading.BoundedSemaphore:
    """Return what bounds the process's downloads at the same time."""
    return threading.BoundedSemaphore(downloads)


def _wanted_file(url: str) -> _Wanted:
    """Return a local file as it is now; raises ClipError if it cannot be used."""
    path = os.path.abspath(url)
    info = local.check_file(path)
    name = digest("local", path, info.st_size, info.st_mtime_ns)
    return _Wanted(path, web=False, direct=True, name=name)


def has_changed(clip: Clip) -> bool:
    """Tell whether the local file that a clip was fetched from is another one by now.

    One that is gone has not changed: what was fetched is still there.
    """
    if clip.source is None or is_web(clip.url):
        return False
    try:
        return not clip.source.path.startswith(_wanted_file(clip.url).base)
    except ClipError:
        return False


def _archived(store: Store, wanted: _Wanted) -> Source | None:
    """Return the source if it was fetched before and its file and sidecar are still there."""
    try:
        data = store.read_bytes(f"{wanted.base}.json")
        sidecar = parse_json(data)
        source = Source(**sidecar["source"])
    except (FileNotFoundError, ValueError, TypeError, KeyError):  # a damaged one is none
        return None
    if SEAL in sidecar and seal(sidecar) != data:  # older ones carry no checksum
        return None
    if not store.exists(source.path) or store.size(source.path) != source.bytes:
        return None
    return source


def _section_ms(group: Sequence[Clip]) -> tuple[int, int] | None:
    """Return the span that all clips lie in, with a margin; None if one may need the whole."""
    ends_ms = [clip.end_ms for clip in group if clip.end_ms is not None and not clip.events_ms]
    if len(ends_ms) < len(group):
        return None
    start_ms = min(clip.start_ms or 0 for clip in group)
    return max(0, start_ms - SECTION_MARGIN_MS), max(ends_ms) + SECTION_MARGIN_MS


def _partial_folder(store: Store) -> Path:
    """Return where unfinished downloads wait: the run's folder, or the cache for a remote one."""
    if not store.remote:
        return Path(store.root) / "media" / ".partial"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "avdata" / "partial" / digest(store.root)
