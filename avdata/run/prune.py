"""What of a run's work is superseded: made for settings, seeds or lists that are no longer its own.

A step's result is in use if the last run's recipe made it, from a part of its plan or from a table
that is itself in use. Results of steps before the table that the last run began with are in use if
their recipe is still the same. Media that one of the run's tables names are always in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from avdata.errors import StoreError
from avdata.run.plan import PLAN_PATH, Plan, part_path, read_plan
from avdata.run.result import StepResult, read_recipes, read_record, record_path
from avdata.steps import PART_STEPS
from avdata.store import Store
from avdata.tables import iter_batches

WORK_FILE = re.compile(r"([0-9a-f]{16})\.(json|parquet|tar)")
PART_FILE = re.compile(r"[0-9a-f]{16}\.parquet")
MEDIA_FOLDER = re.compile(r"[0-9a-f]{2}")
MEDIA_FILE = re.compile(r"([0-9a-f]{16})\.[A-Za-z0-9]+")


def prune(root: str, *, media: bool = False, delete: bool = False) -> dict[str, dict[str, int]]:
    """Return the superseded files with their bytes, by kind: `parts`, each step, `media`.

    media: look at fetched files too. delete: remove what is found. Raises LockedError while a run
    works in the folder, StoreError if it is not known what is in use.
    """
    store = Store(root)
    if not store.exists(PLAN_PATH):
        raise StoreError(f"{root} is no run folder: it has no {PLAN_PATH}")
    with store.lock():
        found = _superseded(store, media)
        if delete:
            for path in (path for paths in found.values() for path in paths):
                store.delete(path)
    return found


def _superseded(store: Store, media: bool) -> dict[str, dict[str, int]]:
    plan, recipes = read_plan(store), read_recipes(store)
    if plan is None or not recipes:
        raise StoreError(
            f"{store.root} does not say what its last run used; run the pipeline again, then prune"
        )
    in_use = _in_use(store, plan, recipes["reached"], recipes["recipes"])
    kept = set(map(part_path, plan.parts))
    for step, results in in_use.items():
        for result_id, result in results.items():
            kept |= {record_path(step, result_id), *result.files}
    fetched = [*kept & set(_work_files(store, "fetch")), *map(part_path, plan.parts)]
    tables = [f"{step}.parquet" for step in PART_STEPS if store.exists(f"{step}.parquet")]
    kept |= _named(store, tables, "media")
    found = {"parts": [f"parts/{n}" for n in store.list("parts") if PART_FILE.fullmatch(n)]}
    found |= {step: list(_work_files(store, step)) for step in in_use}
    if media:
        sources = _named(
            store, [*tables, *(p for p in fetched if p.endswith(".parquet"))], "source"
        )
        kept |= sources | {f"{path.rpartition('.')[0]}.json" for path in sources}
        found["media"] = list(_media_files(store))
    return {
        kind: {path: store.size(path) for path in paths if path not in kept}
        for kind, paths in found.items()
    }


def _in_use(
    store: Store, plan: Plan, reached: str, recipes: dict[str, str]
) -> dict[str, dict[str, StepResult]]:
    """Return the results in use by step and id; of no step whose recipe is not known."""
    behind = PART_STEPS[: PART_STEPS.index(reached) + 1] if reached in PART_STEPS else ()
    inputs = set(plan.parts)
    in_use: dict[str, dict[str, StepResult]] = {}
    for step in PART_STEPS:
        if step not in recipes:
            continue
        results = {
            result_id: result
            for result_id, result in _results(store, step)
            if result.recipe == recipes[step] and (step in behind or result.made_from in inputs)
        }
        if step not in behind:
            inputs = {result.sha256 for result in results.values()}
        in_use[step] = results
    return in_use


def _results(store: Store, step: str) -> Iterator[tuple[str, StepResult]]:
    for path in _work_files(store, step):
        if path.endswith(".json"):
            result_id = path.rpartition("/")[2].removesuffix(".json")
            if result := read_record(store, step, result_id):
                yield result_id, result


def _work_files(store: Store, step: str) -> Iterator[str]:
    for name in store.list(f"work/{step}"):
        if WORK_FILE.fullmatch(name):
            yield f"work/{step}/{name}"


def _media_files(store: Store) -> Iterator[str]:
    for folder in filter(MEDIA_FOLDER.fullmatch, store.list("media")):
        for name in filter(MEDIA_FILE.fullmatch, store.list(f"media/{folder}")):
            yield f"media/{folder}/{name}"


def _named(store: Store, tables: Iterable[str], column: str) -> set[str]:
    """Return the paths of media (column `media`) or fetched files (`source`) that tables name."""
    import pyarrow.compute as pc

    paths: set[str] = set()
    for table in tables:
        for batch in iter_batches(store, table, [f"{column}.path"]):
            found = pc.unique(pc.struct_field(batch[column], "path"))
            paths.update(path for path in found.to_pylist() if path)
    return paths
