"""Paths in a pipeline file: from the working directory, else from the folder of that file.

Settings that hold a path are declared so (`setting(..., path=True)`), and all follow this one rule.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from avdata.errors import SettingsError
from avdata.store import is_remote

if TYPE_CHECKING:
    from avdata.config import Pipeline

T = TypeVar("T")


def beside(settings: T, folder: Path) -> T:
    """Return settings in which paths that are found only beside the pipeline file point there.

    folder: the pipeline file's. Absolute paths, URLs and what is found nowhere stay as they are.
    """
    changed: dict[str, Any] = {}
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if is_dataclass(value):
            changed[field.name] = beside(value, folder)
        elif field.metadata.get("path") and isinstance(value, Mapping):
            changed[field.name] = {name: _beside(path, folder) for name, path in value.items()}
        elif field.metadata.get("path"):
            changed[field.name] = _beside(value, folder)
    return replace(settings, **changed)  # type: ignore[type-var]


def _beside(value: Any, folder: Path) -> Any:
    return str(folder / value) if _lost(value) and (folder / value).exists() else value


def check_found(settings: Any, folder: Path, used: Collection[str] | None = None) -> None:
    """Raise SettingsError for a relative path that is found neither here nor beside the file.

    used: the keys, such as `steps.select.localizer`, of those that are needed; None: all.
    """
    for key, value in _paths(settings, ""):
        if (used is None or key in used) and _lost(value):
            raise SettingsError(
                f"{key}: there is no {value}, neither in the working directory {os.getcwd()} nor "
                f"beside the pipeline file in {os.path.abspath(folder)}"
            )


def _paths(settings: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            yield from _paths(value, f"{prefix}{field.name}.")
        elif field.metadata.get("path") is True:
            named = value if isinstance(value, Mapping) else {"": value}
            yield from ((f"{prefix}{field.name}.{n}".rstrip("."), v) for n, v in named.items())


def _lost(value: Any) -> bool:
    """Tell whether a value is a relative path at which nothing lies."""
    if not isinstance(value, str) or not value or is_remote(value) or os.path.isabs(value):
        return False
    return not os.path.exists(value)


def paths_used(pipeline: Pipeline, steps: Collection[str]) -> set[str]:
    """Return the keys of the paths without which a run of these steps cannot begin."""
    used = {"manifest"}
    if "fetch" in steps:
        used.add("steps.fetch.cookies_file")
    if "select" in steps:
        used.add(f"steps.select.{pipeline.steps.select.scorer}")
    return used
