"""One part through the steps: the work of one Dask task.

A step's output for a part is named by a digest of its input, the step's version, its settings and
the seed. If the name is there, the work is done; so a changed setting recomputes exactly what
depends on it, and a killed run goes on where it was. What was deleted or cut off since is made
again as soon as a step needs it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avdata.clip import Clip, Source, Status
from avdata.config import StepsSettings
from avdata.errors import RETRYABLE, StoreError
from avdata.run.plan import part_path
from avdata.steps import make_step
from avdata.steps.base import PartContext, Step
from avdata.store import Store, explained, is_remote, sha256_file
from avdata.strict import digest
from avdata.tables import read_clips, write_clips


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step made of one part."""

    step: str
    table: str  # path of the clip table
    sha256: str  # of the table: the input of the next step
    rows_in: int
    rows_out: int
    by_status: Mapping[str, int]
    by_reason: Mapping[str, int]  # of the rows this step failed or rejected
    retryable: int  # failed rows that may succeed another time
    seconds: float
    files: Mapping[str, int]  # path of each file it wrote, with its bytes
    accepted_ms: int = 0  # total length of the accepted clips


@dataclass(frozen=True, slots=True)
class PartJob:
    """All a worker needs to bring one part through the steps."""

    root: str
    part: str
    settings: StepsSettings
    steps: tuple[str, ...]
    fingerprints: Mapping[str, Any] = field(default_factory=dict)  # step name to its digest input
    seed: int = 0
    retry_failed: bool = False
    fetch_again: bool = False  # go to the sources even where fetch is done
    fetched: tuple[StepResult, bool] | None = None  # fetch's result; whether it was there before


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one part."""

    part: str
    steps: tuple[StepResult, ...]
    reused: int  # how many of the steps were already done


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
    return replace(job, fetched=_result(job, "fetch", part_path(job.part), job.part))


def _run_steps(job: PartJob) -> PartResult:
    table, content = part_path(job.part), job.part
    results = []
    reused = 0
    for name in job.steps:
        ahead = job.fetched if name == "fetch" else None
        result, was_there = ahead or _result(job, name, table, content)
        reused += was_there
        results.append(result)
        table, content = result.table, result.sha256
    return PartResult(job.part, tuple(results), reused)


def _result(job: PartJob, name: str, table: str, content: str) -> tuple[StepResult, bool]:
    """Return what a step makes of a table, and whether that was there before."""
    store = Store(job.root)
    step = make_step(name, job.settings)
    result_id = digest(content, name, step.version, job.fingerprints[name], job.seed)
    result = read_result(store, name, result_id)
    if result and not (name == "fetch" and _must_fetch_again(job, store, result)):
        return result, True
    return _run_step(step, store, table, result_id, job), False


def _must_fetch_again(job: PartJob, store: Store, result: StepResult) -> bool:
    """Tell whether the sources may give something else than what is recorded."""
    from avdata.steps.fetch import has_changed

    if job.fetch_again or (job.retry_failed and result.retryable):
        return True
    clips = read_clips(store, result.table)
    if any(map(has_changed, clips)):
        return True
    # Later steps may be done and need the files no more, so their loss is no matter by itself.
    needs_files = job.retry_failed or job.steps[-1] == "fetch"
    return needs_files and lost_source(store, clips) is not None


def lost_source(store: Store, clips: Iterable[Clip]) -> Source | None:
    """Return a fetched file that is not there any more as it was, None if there is none."""
    for source in {clip.source for clip in clips if clip.source and clip.status is Status.ACTIVE}:
        try:
            if store.size(source.path) != source.bytes:
                return source
        except FileNotFoundError:
            return source
    return None


def fingerprints(settings: StepsSettings, steps: Sequence[str]) -> dict[str, Any]:
    """Return what each step's output depends on, found once so that all workers agree on it."""
    return {name: make_step(name, settings).fingerprint() for name in steps}


def read_result(store: Store, step: str, result_id: str) -> StepResult | None:
    """Return the recorded result if the step is done for this input and all it wrote is there."""
    try:
        result = StepResult(**json.loads(store.read_bytes(_record_path(step, result_id))))
        whole = all(store.size(path) == size for path, size in result.files.items())
    except (FileNotFoundError, ValueError, TypeError):  # a damaged record is none
        return None
    return result if whole else None


def _record_path(step: str, result_id: str) -> str:
    return f"work/{step}/{result_id}.json"


def _run_step(step: Step, store: Store, table: str, result_id: str, job: PartJob) -> StepResult:
    started = time.monotonic()
    base = f"work/{step.name}/{result_id}"
    clips = read_clips(store, table)
    if job.retry_failed and step.name == "fetch":
        clips = [_revived(clip) for clip in clips]
    if step.name == "trim" and (lost := lost_source(store, clips)):
        raise _LostSourceError(
            f"{store.full(lost.path)} is not there any more as it was fetched; fetch again, or run "
            "the whole pipeline on the manifest"
        )
    with explained(store.root), store.scratch() as scratch:
        part = PartContext(store, f"{base}.tar", Path(scratch), job.seed)
        out = step.run(clips, part)
        part.finish()
        local = Path(scratch) / "table.parquet"
        write_clips(local, out)
        sha256 = sha256_file(local)
        store.write_bytes(f"{base}.parquet", local.read_bytes())
        written = [f"{base}.parquet", *([part.media_path] if part.has_media else [])]
        files = {path: store.size(path) for path in written}
    result = _summarise(step.name, f"{base}.parquet", sha256, clips, out, files, started)
    # Written last: this file's existence says that the table and the media are complete.
    store.write_bytes(_record_path(step.name, result_id), json.dumps(asdict(result)).encode())
    return result


def _revived(clip: Clip) -> Clip:
    """Return a clip that an earlier table shows as failed, but may pass, as active again."""
    if _may_pass(clip):
        return clip.after("manifest", status=Status.ACTIVE, reason="", detail="")
    return clip


def _may_pass(clip: Clip) -> bool:
    """Tell whether fetch may succeed another time: the reason may go, or the file be put there."""
    if clip.status is not Status.FAILED or clip.step != "fetch":
        return False
    return clip.reason in RETRYABLE or not is_remote(clip.url)


def _summarise(
    step: str,
    table: str,
    sha256: str,
    before: Sequence[Clip],
    after: Sequence[Clip],
    files: Mapping[str, int],
    started: float,
) -> StepResult:
    mine = [c for c in after if c.step == step and c.status in (Status.FAILED, Status.REJECTED)]
    return StepResult(
        step=step,
        table=table,
        sha256=sha256,
        rows_in=len(before),
        rows_out=len(after),
        by_status=dict(sorted(Counter(str(c.status) for c in after).items())),
        by_reason=dict(sorted(Counter(c.reason for c in mine).items())),
        retryable=sum(map(_may_pass, mine)),
        seconds=round(time.monotonic() - started, 3),
        files=files,
        accepted_ms=sum(
            round(1000 * c.media.n_samples / c.media.sample_rate_hz)
            for c in after
            if c.status is Status.ACCEPTED and c.media is not None
        ),
    )
