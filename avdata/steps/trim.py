"""trim: from a source to exact clips. Every source is decoded once for all its windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import Empty, Queue
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar

from avdata import audio
from avdata.clip import Clip, Frame, Media, Source, Status, child_key
from avdata.config import TrimSettings
from avdata.cores import cores
from avdata.errors import ClipError, Reason
from avdata.sources import is_web
from avdata.steps.base import PartContext
from avdata.steps.windows import Window, fit_window, plan_windows
from avdata.strict import to_tree

if TYPE_CHECKING:
    from avdata.media.cuts import Cut

QUEUED_CLIPS = 32  # finished clips that one source may keep waiting for their turn
HOW_FAST_NOT_WHAT = ("threads", "decoder_threads")  # settings without influence on the output


@dataclass(frozen=True, slots=True)
class _Job:
    """All windows of one source, each with the number of its row."""

    source: Source
    rows: tuple[int, ...]
    windows: tuple[Window, ...]
    settings: TrimSettings


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A cut window, its sound encoded."""

    cut: Cut
    sound: bytes
    audio_format: str


_Result = tuple[int, _Encoded | ClipError]


class TrimStep:
    """Cuts each source's windows in one pass; sources run in parallel, the tar keeps table order.

    A row that stands for several windows becomes EXPANDED and is followed by its children. A
    source without sound gives an empty WAV, one without pictures gives no frames (fetch
    turns both away unless told otherwise).
    """

    name: ClassVar[str] = "trim"
    version: ClassVar[int] = 2  # rows without end_ms go to the end of the source
    uses_seed: ClassVar[bool] = False

    def __init__(self, settings: TrimSettings) -> None:
        self.settings = settings

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the output depends on."""
        tree: dict[str, Any] = to_tree(self.settings)
        return {name: value for name, value in tree.items() if name not in HOW_FAST_NOT_WHAT}

    def run(self, clips: Sequence[Clip], part: PartContext) -> list[Clip]:
        """Return the clips with their media, written to the part's tar."""
        rows: list[Clip] = []
        planned: dict[str, tuple[Source, list[tuple[int, Window]]]] = {}
        for clip in clips:
            for row, window in self._plan(clip):
                if window is not None and row.source is not None:
                    job = planned.setdefault(row.source.path, (row.source, []))
                    job[1].append((len(rows), window))
                rows.append(row)
        jobs = []
        for source, pairs in planned.values():
            numbers, windows = zip(*pairs, strict=True)
            settings = self._settings_for(rows[numbers[0]].url)
            jobs.append(_Job(source, numbers, windows, settings))
        for number, result in self._results(jobs, part):
            if isinstance(result, ClipError):
                rows[number] = rows[number].failed(self.name, result)
            else:
                rows[number] = self._store(rows[number], result, part)
        return rows

    def _settings_for(self, url: str) -> TrimSettings:
        """Return the settings for a source: decord opens what strangers sent only if told so."""
        if self.settings.decoder == "decord" and _is_web_or_strange(url):
            return replace(self.settings, decoder="pyav")
        return self.settings

    def _plan(self, clip: Clip) -> Iterator[tuple[Clip, Window | None]]:
        """Give the rows that a clip becomes, with the window to cut where there is one."""
        if clip.status is not Status.ACTIVE:
            yield clip, None
            return
        try:
            if clip.source is None:
                raise ClipError(Reason.NOT_FETCHED, "there is no local file to cut from")
            windows = plan_windows(clip, clip.source.duration_ms, self.settings)
        except ClipError as error:
            yield clip.failed(self.name, error), None
            return
        if self.settings.mode == "listed":
            yield self._fitted(clip, windows[0])
            return
        yield clip.after(self.name, status=Status.EXPANDED), None
        for window in windows:
            events_ms = tuple(t for t in clip.events_ms if window.start_ms <= t < window.end_ms)
            key = child_key(clip.key, window.start_ms)
            yield self._fitted(replace(clip, key=key, events_ms=events_ms), window)

    def _fitted(self, clip: Clip, window: Window) -> tuple[Clip, Window | None]:
        assert clip.source is not None
        try:
            fitted = fit_window(window, clip.source.duration_ms, self.settings)
        except ClipError as error:
            clip = replace(clip, start_ms=window.start_ms, end_ms=window.end_ms)
            return clip.failed(self.name, error), None
        return clip.after(self.name, start_ms=fitted.start_ms, end_ms=fitted.end_ms), fitted

    def _results(self, jobs: Sequence[_Job], part: PartContext) -> Iterator[_Result]:
        """Cut several sources at once, but give the results source by source, in order."""
        threads = min(self.settings.threads or cores(), len(jobs))
        if threads <= 1:
            for job in jobs:
                yield from self._cut(job, part)
            return
        stop = Event()
        running: list[tuple[Future[None], Queue[_Result | None]]] = []

        def work(job: _Job, results: Queue[_Result | None]) -> None:
            try:
                for result in self._cut(job, part):
                    results.put(result)
                    if stop.is_set():
                        return
            finally:
                results.put(None)

        with ThreadPoolExecutor(threads, thread_name_prefix="trim") as pool:
            waiting = iter(jobs)
            try:
                while True:
                    # Sources ahead of the one being written cost memory: allow a few.
                    for job in waiting:
                        results: Queue[_Result | None] = Queue(QUEUED_CLIPS)
                        running.append((pool.submit(work, job, results), results))
                        if len(running) >= 2 * threads:
                            break
                    if not running:
                        return
                    future, results = running[0]
                    yield from iter(results.get, None)
                    future.result()
                    running.pop(0)
            finally:
                stop.set()
                for future, results in running:
                    future.cancel()
                    while not future.done():
                        _discard(results)

    def _cut(self, job: _Job, part: PartContext) -> Iterator[_Result]:
        """Cut one source; what goes wrong with it as a whole is the reason of each open row."""
        from avdata.media.decode import cut_source

        done: set[int] = set()
        try:
            with part.store.local(job.source.path) as path:
                for index, cut in cut_source(
                    path, job.source.duration_ms, job.windows, job.settings, part.scratch
                ):
                    done.add(index)
                    yield job.rows[index], self._encode(cut)
        except ClipError as error:
            for index, row in enumerate(job.rows):
                if index not in done:
                    yield row, error

    def _encode(self, cut: Cut | ClipError) -> _Encoded | ClipError:
        if isinstance(cut, ClipError):
            return cut
        # libsndfile can neither write nor read a FLAC file without samples.
        audio_format = self.settings.audio_format if cut.samples.size else "wav"
        sound = audio.encode(cut.samples, self.settings.sample_rate_hz, audio_format)
        return _Encoded(cut, sound, audio_format)

    def _store(self, clip: Clip, encoded: _Encoded, part: PartContext) -> Clip:
        """Write a clip's members to the tar: KEY/sound.flac, KEY/000.jpg ..., KEY/clip.mp4."""
        cut, tar = encoded.cut, part.media
        sound = tar.add(f"{clip.key}/sound.{encoded.audio_format}", encoded.sound)
        frames = []
        for index, (t_s, jpeg) in enumerate(cut.frames):
            member = tar.add(f"{clip.key}/{index:03d}.jpg", jpeg)
            frames.append(Frame(t_s=t_s, offset=member.offset, bytes=member.bytes))
        video = tar.add(f"{clip.key}/clip.mp4", cut.video) if cut.video else None
        media = Media(
            path=part.media_path,
            audio=sound,
            audio_format=encoded.audio_format,
            sample_rate_hz=self.settings.sample_rate_hz,
            n_samples=cut.samples.size,
            width_px=cut.width_px,
            height_px=cut.height_px,
            frames=tuple(frames),
            video=video,
        )
        return clip.after(self.name, media=media)


def _is_web_or_strange(url: str) -> bool:
    try:
        return is_web(url)
    except ClipError:
        return True


def _discard(results: Queue[_Result | None]) -> None:
    try:
        results.get(timeout=0.05)
    except Empty:
        return
