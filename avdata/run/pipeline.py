"""A whole run: plan parts, bring each through the steps, pack shards, summarise.

    manifest → plan → parts → [fetch → trim → tag → select] per part → shard → summary → report

Everything is named by what it depends on, so calling this again continues where it stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from avdata import __version__
from avdata.config import Pipeline, StepsSettings
from avdata.errors import RunError, SettingsError
from avdata.run.executors import Crash, Executor, Staged
from avdata.run.part import (
    PartJob,
    PartResult,
    StepResult,
    fetch_part,
    fingerprints,
    run_part,
)
from avdata.run.plan import Plan, make_plan, part_path
from avdata.steps import PART_STEPS
from avdata.store import Store
from avdata.strict import to_tree
from avdata.tables import concatenate

if TYPE_CHECKING:
    from avdata.run.progress import Progress

log = logging.getLogger(__name__)

STEPS = (*PART_STEPS, "shard")
SUMMARY_PATH = "summary.json"


@dataclass
class StepTotal:
    """What one step made of all parts."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    retryable: int = 0
    seconds: float = 0.0
    accepted_ms: int = 0

    def add(self, result: StepResult) -> None:
        self.rows_in += result.rows_in
        self.rows_out += result.rows_out
        self.by_status.update(result.by_status)
        self.by_reason.update(result.by_reason)
        self.retryable += result.retryable
        self.seconds += result.seconds
        self.accepted_ms += result.accepted_ms

    def to_tree(self) -> dict[str, Any]:
        return {
            **vars(self),
            "by_status": dict(sorted(self.by_status.items())),
            "by_reason": dict(sorted(self.by_reason.items())),
            "seconds": round(self.seconds, 3),
        }


def run(
    pipeline: Pipeline,
    executor: Executor,
    progress: Progress,
    *,
    last_step: str = "shard",
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Run a pipeline up to `last_step` and return the summary (also written to summary.json).

    Raises RunError at the end if parts crashed; what the others gave is complete and kept.
    """
    if not pipeline.manifest or not pipeline.output:
        raise SettingsError("a run needs a manifest and an output folder")
    store = Store(pipeline.output)
    with store.lock():
        store.clean()  # what an earlier run left when it was killed
        try:
            return _run_locked(store, pipeline, executor, progress, last_step, retry_failed)
        finally:
            store.clean()  # what workers left that died on the way


def _run_locked(
    store: Store,
    pipeline: Pipeline,
    executor: Executor,
    progress: Progress,
    last_step: str,
    retry_failed: bool,
) -> dict[str, Any]:
    started = time.monotonic()
    progress.note("planning")
    plan = make_plan(store, pipeline.manifest, pipeline.part_clips)
    steps = _steps_between(plan.reached, last_step)
    part_steps = tuple(step for step in steps if step in PART_STEPS)
    prints = fingerprints(pipeline.steps, part_steps)
    settings = _with_threads(pipeline.steps, executor.threads_per_job)
    jobs = (
        PartJob(store.root, name, settings, part_steps, prints, pipeline.seed, retry_failed)
        for name in plan.parts
    )
    tables: dict[str, dict[str, str]] = {step: {} for step in part_steps}
    totals = {step: StepTotal(step) for step in part_steps}
    crashes: list[Crash] = []
    fetched_ahead = Staged(fetch_part, run_part, settings.fetch.downloads)
    outcomes = executor.map(
        fetched_ahead if "fetch" in part_steps else run_part, jobs if part_steps else ()
    )
    with progress.bar("parts", len(plan.parts)) as advance, closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Crash):
                crashes.append(outcome)
                log.error("part %s crashed\n%s", outcome.job.part, outcome.traceback)
            else:
                _account(outcome, tables, totals)
            advance(_counts(totals))
    # Parts finish in any order; tables keep the plan's.
    for step in part_steps:
        ordered = [tables[step][name] for name in plan.parts if name in tables[step]]
        progress.note(f"joining the {step} table")
        concatenate(store, ordered, f"{step}.parquet")
    summary = _summary(pipeline, store, plan, totals.values(), crashes)
    if steps[-1] == "shard" and not crashes:
        selected = tables.get("select", {name: part_path(name) for name in plan.parts})
        ordered = [selected[name] for name in plan.parts]
        summary["shards"] = _shard(store, pipeline, ordered, executor, progress)
    summary["wall_seconds"] = round(time.monotonic() - started, 3)
    store.write_bytes(SUMMARY_PATH, json.dumps(summary, indent=1, ensure_ascii=False).encode())
    if pipeline.report and "shards" in summary:
        from avdata.report import write_report

        progress.note("writing the report")
        write_report(store.root)
    if crashes:
        raise RunError(
            f"{len(crashes)} of {len(plan.parts)} parts crashed, first: {crashes[0].error}; "
            "the others are complete and a rerun tries only the crashed ones"
        )
    return summary


def _with_threads(settings: StepsSettings, threads: int) -> StepsSettings:
    """Return the settings for a place that gives a job so many threads, where none are set."""
    trim = settings.trim
    return replace(settings, trim=replace(trim, threads=trim.threads or threads))


def _steps_between(reached: str, last_step: str) -> tuple[str, ...]:
    """Return the steps after the one a table has reached, up to and with `last_step`."""
    first = STEPS.index(reached) + 1 if reached in STEPS else 0
    steps = STEPS[first : STEPS.index(last_step) + 1]
    if not steps:
        raise SettingsError(
            f"the input already went through {reached}: there is nothing left for {last_step} to do"
        )
    return steps


def _account(
    result: PartResult, tables: dict[str, dict[str, str]], totals: dict[str, StepTotal]
) -> None:
    for step in result.steps:
        tables[step.step][result.part] = step.table
        totals[step.step].add(step)


def _counts(totals: dict[str, StepTotal]) -> str:
    last = next(reversed(totals.values()), None)
    if last is None:
        return ""
    return ", ".join(f"{count} {status}" for status, count in sorted(last.by_status.items()))


def _shard(
    store: Store, pipeline: Pipeline, tables: Sequence[str], executor: Executor, progress: Progress
) -> dict[str, Any]:
    """Pack the accepted clips and return counts per split."""
    from functools import partial

    from avdata.steps import shard

    progress.note("planning shards")
    plans = shard.plan_shards(store, tables, pipeline.steps.shard, pipeline.seed)
    stats = []
    write = partial(_write_shard, root=store.root, settings=pipeline.steps.shard)
    outcomes = executor.map(write, plans)
    with progress.bar("shards", len(plans)) as advance, closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Crash):
                raise RunError(f"writing a shard crashed: {outcome.error}\n{outcome.traceback}")
            stats.append(outcome)
            advance("")
    return shard.finish_shards(store, plans, stats, pipeline.steps.shard)


def _write_shard(plan: Any, *, root: str, settings: Any) -> Any:
    from avdata.steps import shard

    return shard.write_shard(Store(root), plan, settings)


def _summary(
    pipeline: Pipeline,
    store: Store,
    plan: Plan,
    totals: Iterable[StepTotal],
    crashes: Sequence[Crash],
) -> dict[str, Any]:
    """Return the summary; a run that goes on from a table keeps the earlier steps' entries."""
    return {
        "name": pipeline.name,
        "seed": pipeline.seed,
        "version": __version__,
        "manifest": pipeline.manifest,
        "output": pipeline.output,
        "manifest_rows": plan.rows,
        "bad_rows": plan.bad_rows,
        "parts": len(plan.parts),
        "crashed_parts": [crash.job.part for crash in crashes],
        "steps": [*_earlier_steps(store, plan.reached), *(total.to_tree() for total in totals)],
        "settings": to_tree(pipeline.steps),
        "stages": list(pipeline.stages),
    }


def _earlier_steps(store: Store, reached: str) -> list[dict[str, Any]]:
    """Return what the summary that is there says of the steps up to `reached`."""
    if reached not in STEPS:
        return []
    names = STEPS[: STEPS.index(reached) + 1]
    try:
        steps = json.loads(store.read_bytes(SUMMARY_PATH))["steps"]
    except (FileNotFoundError, ValueError, KeyError):
        return []
    return [step for step in steps if step["name"] in names]
