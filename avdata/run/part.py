"""One part through the steps: the work of one Dask task.

A step's output for a part is named by a digest of its input, the step's version, its settings and,
where the step draws, the seed. If the name is there, the work is done; so a changed setting
recomputes exactly what depends on it, and a killed run goes on where it was. What was deleted or
changed since is made again as soon as a step needs it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from avdata.clip import Clip, Source, Status
from avdata.config import StepsSettings
from avdata.errors import ClipError, Reason, StoreError
from avdata.run.attempt import Attempt, crashing, make, source_name, tracebacks
from avdata.run.plan import part_path
from avdata.run.result import StepResult, may_pass, read_result, summarise, write_result
from avdata.steps import make_step
from avdata.store import Store, sha256_file
from avdata.strict import digest
from avdata.tables import read_clips, write_clips


@dataclass(frozen=True, slots=True)
class _Done:
    """A step that is done for a part."""

    result: StepResult
    was_there: bool
    tracebacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartJob:
    """All a worker needs to bring one part through the steps."""

    root: str
    part: str
    settings: StepsSettings
    steps: tuple[str, ...]
    recipes: Mapping[str, str] = field(default_factory=dict)  # by step, see `recipes`
    seed: int = 0
    retry_failed: bool = False
    fetch_again: bool = False  # go to the sources even where fetch is done
    deep: bool = False  # compare the checksums of media too, not only of tables
    fetched: _Done | None = None  # what `fetch_part` has done ahead of the rest


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one part."""

    part: str
    steps: tuple[StepResult, ...]
    reused: int  # how many of the steps were already done
    tracebacks: tuple[str, ...] = ()  # of the sources that crashed by a bug


class _LostSourceError(StoreError):
    """A fetched file is gone."""


def run_part(job: PartJob) -> PartResult:
    """Run the steps on one part, skipping what is already there."""
    try:
        return _run_steps(job)
    except _LostSourceError:
        if "fetch" not in job.steps or job.fetch_again:
            raise
        return _run_steps(replace(job, fetch_again=True, fetched=None))


def fetch_part(job: PartJob) -> PartJob:
    """Do the first step of a part, fetch; `run_part` goes on with the job that comes out."""
    return replace(job, fetched=_done(job, "fetch", part_path(job.part), job.part))


def _run_steps(job: PartJob) -> PartResult:
    table, content = part_path(job.part), job.part
    done = []
    for step in job.steps:
        ahead = job.fetched if step == "fetch" else None
        done.append(ahead or _done(job, step, table, content))
        table, content = done[-1].result.table, done[-1].result.sha256
    return PartResult(
        job.part,
        tuple(one.result for one in done),
        sum(one.was_there for one in done),
        tuple(text for one in done for text in one.tracebacks),
    )


def _done(job: PartJob, step: str, table: str, content: str) -> _Done:
    """Return what a step makes of a table, from the record if it is there and still holds."""
    store = Store(job.root)
    result_id = digest(content, step, job.recipes[step])
    result = read_result(store, step, result_id, job.deep)
    if result and step == "fetch" and _must_fetch_again(job, store, result):
        result = None
    suspects = _suspects(job, store, result) if result else set()
    if result and not suspects:
        return _Done(result, True)
    attempt = _attempt(job, store, step, result_id, table)
    deadly = result is not None and Reason.DECODER_CRASH in result.by_reason
    if result:
        failures = crashing(attempt, _of(attempt.clips, suspects), apart=deadly)
        if failures.keys() == suspects:
            return _Done(result, True, tracebacks(failures))
    return _run_step(job, store, attempt, content, apart=deadly)


def _must_fetch_again(job: PartJob, store: Store, result: StepResult) -> bool:
    """Tell whether the sources may give something else than what is recorded."""
    from avdata.steps.fetch import has_changed

    if job.fetch_again or (job.retry_failed and result.retryable):
        return True
    clips = read_clips(store, result.table)
    if any(map(has_changed, clips)):
        return True
    # Later steps may be done and need the files no more, so their loss is no matter by itself.
    if not (job.deep or job.retry_failed or job.steps[-1] == "fetch"):
        return False
    lost = list(lost_sources(store, clips, job.deep))
    for source in lost:  # a file of the right size would pass for what it was
        store.delete(source.path)
    return bool(lost)


def lost_sources(store: Store, clips: Iterable[Clip], deep: bool = False) -> Iterator[Source]:
    """Yield the fetched files that are not there any more as they were.

    They are compared by their size, or if `deep` by their checksum.
    """
    for source in {clip.source for clip in clips if clip.status is Status.ACTIVE}:
        if source and not _is_whole(store, source, deep):
            yield source


def _is_whole(store: Store, source: Source, deep: bool) -> bool:
    try:
        if store.size(source.path) != source.bytes:
            return False
        return not deep or store.sha256(source.path) == source.sha256
    except FileNotFoundError:
        return False


def _suspects(job: PartJob, store: Store, result: StepResult) -> set[str]:
    """Return the sources that crashed this step and are to be tried again.

    Those that crashed by a bug are at every run, those whose process died if it is asked for.
    """
    reasons = {Reason.CRASHED, *([Reason.DECODER_CRASH] if job.retry_failed else [])}
    if not reasons & result.by_reason.keys():
        return set()
    clips = read_clips(store, result.table)
    return {source_name(c) for c in clips if c.step == result.step and c.reason in reasons}


def _of(clips: Iterable[Clip], sources: set[str]) -> list[Clip]:
    return [clip for clip in clips if source_name(clip) in sources]


def recipes(settings: StepsSettings, steps: Sequence[str], seed: int) -> dict[str, str]:
    """Return a digest of all that each step's output depends on besides its clips.

    Found once, so that all workers agree on it.
    """
    made = {name: make_step(name, settings) for name in steps}
    return {
        name: digest(name, step.version, step.fingerprint(), seed if step.uses_seed else None)
        for name, step in made.items()
    }


def _attempt(job: PartJob, store: Store, step: str, result_id: str, table: str) -> Attempt:
    try:
        clips = read_clips(store, table)
    except FileNotFoundError:
        raise StoreError(
            f"{socket.gethostname()} cannot see {store.full(table)}: every worker must reach the "
            "output under the same path; put it on a disk that all share, or give a URL such as "
            "s3://BUCKET/RUN"
        ) from None
    if job.retry_failed and step == "fetch":
        clips = [_revived(clip) for clip in clips]
    base = f"work/{step}/{result_id}"
    return Attempt(store.root, step, job.settings, job.seed, base, tuple(clips))


def _run_step(job: PartJob, store: Store, attempt: Attempt, content: str, *, apart: bool) -> _Done:
    started = time.monotonic()
    step, clips = attempt.step, attempt.clips
    if step == "trim" and (lost := next(lost_sources(store, clips, job.deep), None)):
        raise _LostSourceError(
            f"{store.full(lost.path)} is not there any more as it was fetched; fetch again, or run "
            "the whole pipeline on the manifest"
        )
    with _begun(store, attempt.base) as died_before:
        made = make(attempt, apart or died_before)
    table, media = f"{made.base}.parquet", f"{made.base}.tar" if made.media_sha256 else ""
    sha256 = write_table(store, table, made.clips)
    result = StepResult(
        step=step,
        made_from=content,
        recipe=job.recipes[step],
        table=table,
        sha256=sha256,
        media=media,
        media_sha256=made.media_sha256,
        files={path: store.size(path) for path in (table, media) if path},
        seconds=round(time.monotonic() - started, 3),
        **summarise(step, clips, made.clips),
    )
    write_result(store, attempt.base.rpartition("/")[2], result)
    return _Done(result, False, made.tracebacks)


@contextmanager
def _begun(store: Store, base: str) -> Iterator[bool]:
    """Leave a mark while a step works; gives whether one was there: who made it died of the work.

    It tells whoever tries next, on whatever machine or in the next run, to use a child process.
    """
    mark = f"{base}.begun"
    died_before = store.exists(mark)
    if not died_before:
        store.write_bytes(mark, b"")
    try:
        yield died_before
    finally:
        store.delete(mark)


def write_table(store: Store, path: str, clips: Sequence[Clip]) -> str:
    """Write a part's table and return its SHA-256."""
    with store.writing(path) as temporary:
        write_clips(temporary, clips)
        return sha256_file(temporary)


def _revived(clip: Clip) -> Clip:
    """Return a clip that an earlier table shows as failed, but may pass, as active again."""
    if may_pass(clip):
        return clip.after("manifest", status=Status.ACTIVE, reason="", detail="")
    return clip


def crashed_part(job: PartJob, error: str) -> PartResult:
    """Return a part of which nothing came, not even source by source, as rows that say so."""
    store = Store(job.root)
    before = read_clips(store, part_path(job.part))
    step = job.steps[0]
    after = [
        c.failed(step, ClipError(Reason.CRASHED, error)) if c.status is Status.ACTIVE else c
        for c in before
    ]
    table = f"work/{step}/{digest(job.part, 'crashed', error)}.parquet"
    sha256 = write_table(store, table, after)
    results = [
        StepResult(
            step=name,
            made_from=job.part,
            recipe=job.recipes[name],
            table=table,
            sha256=sha256,
            media="",
            media_sha256="",
            files={},
            seconds=0.0,
            **summarise(name, before if name == step else after, after),
        )
        for name in job.steps
    ]
    return PartResult(job.part, tuple(results), 0)
