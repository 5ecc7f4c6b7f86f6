"""The settings of a step that is run alone: those of the run whose table it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avdata.config import Pipeline
from avdata.run.pipeline import SUMMARY_PATH
from avdata.stage_names import require_stages
from avdata.store import Store
from avdata.strict import build, override


def settings_of_table(table: str, overrides: Sequence[str] = ()) -> Pipeline:
    """Return the settings, seed and name of the run in whose folder a clip table lies.

    The defaults where there is no such run. `overrides` are `--set key=value` on top of either.
    Raises StoreError if the run's summary is damaged, SettingsError if its settings are of another
    version of avdata.
    """
    from avdata.report.steps import read_json

    store = Store(table.rpartition("/")[0] or ".")
    tree: dict[str, Any] = {}
    if table.endswith(".parquet") and "settings" in (summary := read_json(store, SUMMARY_PATH)):
        tree = {name: summary[name] for name in ("name", "seed")} | {"steps": summary["settings"]}
    where = store.full(SUMMARY_PATH) if tree else "--set"
    pipeline = build(Pipeline, override(tree, overrides), where)
    require_stages(pipeline.stages, where)
    return pipeline
