"""One part through the steps: the work of one Dask task.

A step's output for a part is named by a digest of its input, the step's version, its settings and
the seed. If the name is there, the work is done; so a changed setting recomputes exactly what
depends on it, and a killed run goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avdata.clip import Clip, Status
from avdata.config import StepsSettings
from avdata.errors import RETRYABLE
from avdata.plan import part_path
from avdata.steps import make_step
from avdata.steps.base import PartContext, Step
from avdata.store import Store, explained, sha256_file
from avdata.strict import digest
from avdata.tables import read_clips, write_clips

RETRYABLE_CODES = frozenset(map(str, RETRYABLE))


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


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one part."""

    part: str
    steps: tuple[StepResult, ...]
    reused: int  # how many of the steps were already done


def run_part(job: PartJob) -> PartResult:
    """Run the steps on one part, skipping what is already there."""
    store = Store(job.root)
    table, content = part_path(job.part), job.part
    results = []
    reused = 0
    for name in job.steps:
        step = make_step(name, job.settings)
        result_id = digest(content, name, step.version, job.fingerprints[name], job.seed)
        result = read_result(store, name, result_id)
        if result and not (job.retry_failed and name == "fetch" and result.retryable):
            reused += 1
        else:
            result = _run_step(step, store, table, result_id, job)
        results.append(result)
        table, content = result.table, result.sha256
    return PartResult(job.part, tuple(results), reused)


def fingerprints(settings: StepsSettings, steps: Sequence[str]) -> dict[str, Any]:
    """Return what each step's output depends on, found once so that all workers agree on it."""
    return {name: make_step(name, settings).fingerprint() for name in steps}


def read_result(store: Store, step: str, result_id: str) -> StepResult | None:
    """Return the recorded result if the step is done for this input, else None."""
    path = f"work/{step}/{result_id}.json"
    if not store.exists(path):
        return None
    return StepResult(**json.loads(store.read_bytes(path)))


def _run_step(step: Step, store: Store, table: str, result_id: str, job: PartJob) -> StepResult:
    started = time.monotonic()
    base = f"work/{step.name}/{result_id}"
    clips = read_clips(store, table)
    if job.retry_failed and step.name == "fetch":
        clips = [_revived(clip) for clip in clips]
    with explained(store.root), store.scratch() as scratch:
        part = PartContext(store, f"{base}.tar", Path(scratch), job.seed)
        out = step.run(clips, part)
        part.finish()
        local = Path(scratch) / "table.parquet"
        write_clips(local, out)
        sha256 = sha256_file(local)
        store.write_bytes(f"{base}.parquet", local.read_bytes())
    result = _summarise(step.name, f"{base}.parquet", sha256, clips, out, started)
    # Written last: this file's existence says that the table and the media are complete.
    store.write_bytes(f"{base}.json", json.dumps(asdict(result)).encode())
    return result


def _revived(clip: Clip) -> Clip:
    """Return a clip that an earlier table shows as failed for a passing reason, as active again."""
    if clip.status is Status.FAILED and clip.step == "fetch" and clip.reason in RETRYABLE_CODES:
        return clip.after("manifest", status=Status.ACTIVE, reason="", detail="")
    return clip


def _summarise(
    step: str,
    table: str,
    sha256: str,
    before: Sequence[Clip],
    after: Sequence[Clip],
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
        retryable=sum(c.reason in RETRYABLE_CODES for c in mine),
        seconds=round(time.monotonic() - started, 3),
        accepted_ms=sum(
            round(1000 * c.media.n_samples / c.media.sample_rate_hz)
            for c in after
            if c.status is Status.ACCEPTED and c.media is not None
        ),
    )
