"""The names that `stages:` of a pipeline file may have: those of programs of the training half.

The data half never imports the training half. It reads a file of it, if that is installed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from avdata.errors import SettingsError, nearest

FILE = "programs.yaml"


@cache
def stage_programs() -> dict[str, str] | None:
    """Return what each program does, by its name; None without the training half.

    Those of families stand in files of their own, stages/FAMILY/programs.yaml, and come last.
    """
    import yaml

    spec = find_spec("stages")  # which does not import it
    found: dict[str, str] = {}
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in (Path(folder) / FILE, *sorted(Path(folder).glob(f"*/{FILE}"))):
            if path.is_file():
                found |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return found or None


def require_stages(names: Iterable[str], where: str, also: Collection[str] = ()) -> None:
    """Raise SettingsError for a stage that no program reads: its settings would have no effect.

    also: names of programs that are not of this project.
    """
    programs = stage_programs()
    if programs is None:
        return
    known = [*programs, *also]
    for name in names:
        if name not in known:
            raise SettingsError(f"{where}: stages: unknown stage {name!r}; {nearest(name, known)}")
