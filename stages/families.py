"""The table of families: one line each. Programs loop over it and know no family by name."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from avdata.errors import SettingsError, nearest

if TYPE_CHECKING:
    from stages.family import Family
    from stages.generation.painter import Ability

FAMILIES = {
    "sound2scene": "stages.sound2scene.family:FAMILY",
    "avstyle": "stages.avstyle.family:FAMILY",
    "adain": "stages.adain.family:FAMILY",
    "sound_guided": "stages.sound_guided.family:FAMILY",
}
"""Name → `module:family`, imported when it is asked for."""


def family(name: str) -> Family:
    """Return a family by name; raises SettingsError, with the nearest name, for an unknown one."""
    if name not in FAMILIES:
        raise SettingsError(f"no family is called {name!r}; {nearest(name, FAMILIES)}")
    module, attribute = FAMILIES[name].split(":")
    found: Family = getattr(import_module(module), attribute)
    return found


def families() -> list[Family]:
    """Return all families, in the order of the table."""
    return [family(name) for name in FAMILIES]


def able(needs: Collection[Ability]) -> list[Family]:
    """Return the families that have all these abilities."""
    return [one for one in families() if one.abilities.issuperset(needs)]


def trained_in(run: str | Path | None) -> list[Family]:
    """Return the families one of whose parts was begun in this output folder."""
    if run is None:
        return []
    stages = Path(run) / "stages"
    return [f for f in families() if any((stages / p).is_dir() for p in f.parts.values())]
