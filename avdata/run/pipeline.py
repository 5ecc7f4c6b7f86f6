"""A whole run: plan parts, bring each through the steps, pack shards, summarise.

    manifest → plan → parts → [fetch → trim → tag → select] per part → shard → summary → report

Everything is named by what it depends on, so calling this again continues where it stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from avdata import __version__
from avdata.config import Pipeline, StepsSettings
from avdata.errors import AvdataError, RunError, SettingsError
from avdata.parsing import parse_json
from avdata.run.crashes import Crashed, find_crashed
from avdata.run.jobs import Crash, Executor, Staged
from avdata.run.part import PartJob, PartResult, crashed_part, fetch_part, recipes, run_part
from avdata.run.paths import absolute, absolute_settings
from avdata.run.plan import Plan, forget_plan, make_plan, part_path, read_plan
from avdata.run.result import StepResult, write_recipes
from avdata.steps import PART_STEPS
from avdata.store import Store
from avdata.strict import to_tree
from avdata.tables import concatenate, write_class_names

if TYPE_CHECKING:
    from avdata.run.progress import Progress

log = logging.getLogger(__name__)

STEPS = (*PART_STEPS, "shard")
SUMMARY_PATH = "summary.json"
NOT_OURS = ("stages", "media/??")
"""Where a run cleans nothing: trainings have locks of their own; in the folders of fetched media
lies only what is complete."""
TRIES_AFTER_DEATH = 2


@dataclass
class StepTotal:
    """What one step made of all parts."""

    name: str
    rows_in: int = 0
    rows_out: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    crashed: int = 0
    retryable: int = 0
    seconds: float = 0.0
    accepted_ms: int = 0

    def add(self, result: StepResult) -> None:
        self.rows_in += result.rows_in
        self.rows_out += result.rows_out
        self.by_status.update(result.by_status)
        self.by_reason.update(result.by_reason)
        self.crashed += result.crashed
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
    allow_crashed: bool = False,
    deep: bool = False,
) -> dict[str, Any]:
    """Run a pipeline up to `last_step` and return the summary (also written to summary.json).

    retry_failed: try again what failed and may succeed by now. allow_crashed: pack shards of the
    rest where sources crashed. deep: compare the checksums of media too, and make anew what was
    changed. Raises RunError at the end if sources crashed and that is not allowed; what the others
    gave is complete and kept.
    """
    if not pipeline.manifest or not pipeline.output:
        raise SettingsError("a run needs a manifest and an output folder")
    store = Store(absolute(pipeline.output))  # workers run in folders of their own
    options = _Options(last_step, retry_failed, allow_crashed, deep)
    with store.lock():
        store.clean(NOT_OURS)  # what an earlier run left when it was killed
        try:
            return _run_locked(store, pipeline, executor, progress, options)
        finally:
            store.clean(NOT_OURS)  # what workers left that died on the way


@dataclass(frozen=True, slots=True)
class _Options:
    """How far a run goes and what it does over; see `run`."""

    last_step: str
    retry_failed: bool
    allow_crashed: bool
    deep: bool


def _run_locked(
    store: Store,
    pipeline: Pipeline,
    executor: Executor,
    progress: Progress,
    options: _Options,
) -> dict[str, Any]:
    started = time.monotonic()
    progress.note("planning")
    plan, steps, made_by = _plan(store, pipeline, options.last_step)
    part_steps = tuple(made_by)
    settings = _with_threads(absolute_settings(pipeline.steps), executor.threads_per_job)
    job = PartJob(store.root, "", settings, part_steps, made_by, pipeline.seed)
    job = replace(job, retry_failed=options.retry_failed, deep=options.deep)
    jobs = (replace(job, part=name) for name in plan.parts)
    tables: dict[str, dict[str, str]] = {step: {} for step in part_steps}
    totals = {step: StepTotal(step) for step in part_steps}
    results = _results(executor, jobs if part_steps else (), job)
    with progress.bar("parts", len(plan.parts)) as advance, closing(results):
        for result in results:
            _account(result, tables, totals)
            advance(_counts(totals))
    # Parts finish in any order; tables keep the plan's.
    ordered = [part_path(name) for name in plan.parts]
    for step in part_steps:
        ordered = [tables[step][name] for name in plan.parts]
        progress.note(f"joining the {step} table")
        concatenate(store, ordered, f"{step}.parquet")
    if "tag" in part_steps:
        write_class_names(store)
    crashed_rows = totals[part_steps[-1]].crashed if part_steps else plan.crashed_rows
    crashed = find_crashed(store, ordered) if crashed_rows else Crashed()
    summary = _summary(pipeline, store, plan, totals.values(), crashed)
    if steps[-1] == "shard" and (options.allow_crashed or not crashed.rows):
        summary["shards"] = _shard(
            store, pipeline, ordered, executor, progress, crashed, options.deep
        )
    summary["wall_seconds"] = round(time.monotonic() - started, 3)
    store.write_bytes(SUMMARY_PATH, json.dumps(summary, indent=1, ensure_ascii=False).encode())
    if pipeline.report and "shards" in summary:
        from avdata.report import write_report

        progress.note("writing the report")
        write_report(store.root)
    if crashed.rows and not options.allow_crashed:
        raise RunError(
            f"{crashed}; everything else is complete and a rerun tries only these again; "
            "--allow-crashed packs shards of the rest"
        )
    return summary


def _plan(
    store: Store, pipeline: Pipeline, last_step: str
) -> tuple[Plan, tuple[str, ...], dict[str, str]]:
    """Return the plan, the steps to run, and by what the part steps are made (see `recipes`)."""
    had_plan = read_plan(store) is not None
    manifest = absolute(pipeline.manifest)
    plan = make_plan(store, manifest, pipeline.part_clips, pipeline.columns)
    try:
        steps = _steps_between(plan.reached, last_step)
        part_steps = tuple(step for step in steps if step in PART_STEPS)
        made_by = recipes(pipeline.steps, part_steps, pipeline.seed)
    except AvdataError:
        if not had_plan:  # a start that failed leaves nothing
            forget_plan(store, plan)
        raise
    write_recipes(store, plan.reached, made_by)
    return plan, steps, made_by


def _results(
    executor: Executor, jobs: Iterable[PartJob], like: PartJob
) -> Generator[PartResult, None, None]:
    """Bring every part through the steps; yield what became of each, in any order.

    `like` is a job with the steps and settings of all.
    """
    fetched_ahead = Staged(fetch_part, run_part, like.settings.fetch.downloads)
    work = fetched_ahead if "fetch" in like.steps else run_part
    for tries_left in reversed(range(TRIES_AFTER_DEATH + 1)):
        died = []
        with closing(executor.map(work, jobs)) as outcomes:
            for outcome in outcomes:
                if not isinstance(outcome, Crash):
                    for text in outcome.tracebacks:
                        log.error("%s", text)
                    yield outcome
                elif outcome.died and tries_left:
                    died.append(outcome.job)  # it finds its mark and works in child processes
                else:
                    log.error("part %s crashed\n%s", outcome.job.part, outcome.traceback)
                    yield crashed_part(outcome.job, outcome.error)
        if not died:
            return
        log.warning("%d parts lost their process and are tried again", len(died))
        jobs = died


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
    store: Store,
    pipeline: Pipeline,
    tables: Sequence[str],
    executor: Executor,
    progress: Progress,
    crashed: Crashed,
    deep: bool,
) -> dict[str, Any]:
    """Pack the accepted clips and return counts per split."""
    from functools import partial

    from avdata.steps import shard

    progress.note("planning shards")
    plans = shard.plan_shards(store, tables, pipeline.steps.shard, pipeline.seed, deep=deep)
    stats = []
    write = partial(_write_shard, root=store.root, settings=pipeline.steps.shard)
    outcomes = executor.map(write, plans)
    with progress.bar("shards", len(plans)) as advance, closing(outcomes):
        for outcome in outcomes:
            if isinstance(outcome, Crash):
                raise RunError(f"writing a shard crashed: {outcome.error}\n{outcome.traceback}")
            stats.append(outcome)
            advance("")
    return shard.finish_shards(store, plans, stats, pipeline.steps.shard, crashed.to_tree())


def _write_shard(plan: Any, *, root: str, settings: Any) -> Any:
    from avdata.steps import shard

    return shard.write_shard(Store(root), plan, settings)


def _summary(
    pipeline: Pipeline,
    store: Store,
    plan: Plan,
    totals: Iterable[StepTotal],
    crashed: Crashed,
) -> dict[str, Any]:
    """Return the summary; a run that goes on from a table of its own keeps how it all began."""
    own = {
        "manifest": pipeline.manifest,
        "manifest_rows": plan.rows,
        "bad_rows": plan.bad_rows,
        "stages": list(pipeline.stages),
    }
    steps: list[dict[str, Any]] = []
    if plan.reached in STEPS:
        names = STEPS[: STEPS.index(plan.reached) + 1]
        earlier = read_summary(store)
        steps = [step for step in earlier.get("steps", ()) if step["name"] in names]
        if absolute(pipeline.manifest).startswith(f"{store.root}/"):
            own |= {name: earlier[name] for name in own if name in earlier}
    return {
        "name": pipeline.name,
        "seed": pipeline.seed,
        "version": __version__,
        **own,
        "output": pipeline.output,
        "parts": len(plan.parts),
        "crashed": crashed.to_tree(),
        "steps": [*steps, *(total.to_tree() for total in totals)],
        "settings": to_tree(pipeline.steps),
    }


def read_summary(store: Store) -> dict[str, Any]:
    """Return the summary of the run that was in a folder; empty if there is none, or a damaged."""
    try:
        tree = parse_json(store.read_bytes(SUMMARY_PATH))
    except (FileNotFoundError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
