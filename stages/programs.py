"""The programs that read a section of a pipeline file, and the settings of each.

for name, does in programs().items():
    print(name, does, settings_class(name))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from avdata.errors import SettingsError, nearest
from avdata.stage_names import stage_programs


def programs() -> dict[str, str]:
    """Return what each program does, in one line, by its name (`programs.yaml`)."""
    return stage_programs() or {}


def settings_class(name: str) -> type[Any]:
    """Return the settings of a program, its section as a class; raises SettingsError."""
    if name not in programs():
        raise SettingsError(f"no stage is called {name!r}; {nearest(name, programs())}")
    found: type[Any] = import_module(f"stages.{name}").Settings
    return found
