"""The table of pretrained weights: avdata/data/weights.yaml, and rows that others register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from avdata.errors import WeightsError
from avdata.strict import build, read_tree

TABLE = Path(__file__).parents[1] / "data/weights.yaml"

_registered: dict[str, Entry] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Pretrained weights: one file, or a folder of several.

    files: SHA-256 by path in the folder; None where none is published. sources: where every file
    is had, in the order of asking, as data/weights.yaml explains.
    """

    purpose: str
    licence: str
    files: dict[str, str | None] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        for file in self.files:
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or path.name.startswith("."):
                raise ValueError(f"weights {self.name!r}: {file!r} is no path in a folder")

    @property
    def file(self) -> str:
        """The path of the only file; raises WeightsError if there are several."""
        if len(self.files) != 1:
            raise WeightsError(f"weights {self.name!r} are {len(self.files)} files, not one")
        return next(iter(self.files))

    @property
    def sha256(self) -> str:
        """The published SHA-256 of the only file, '' if there is none."""
        return self.files[self.file] or ""


def register(entry: Entry) -> None:
    """Add a row, which a later one of the same name replaces."""
    _registered[entry.name] = entry


def entries() -> Mapping[str, Entry]:
    """Return the whole table by name."""
    return {**_read(), **_registered}


def entry(name: str) -> Entry:
    """Return one row of the table; raises WeightsError for a name that is not in it."""
    table = entries()
    if name not in table:
        raise WeightsError(f"no weights are called {name!r}; known: {', '.join(sorted(table))}")
    return table[name]


@cache
def _read() -> dict[str, Entry]:
    return {
        name: build(Entry, {**row, "name": name}, f"{TABLE.name}: {name}")
        for name, row in read_tree(TABLE).items()
    }
