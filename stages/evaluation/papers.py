"""What a paper reports, to be set beside our own figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table: names of columns, and rows of a name and its values; None where none is given.

    Rows that are named as systems have ours beside them where those were scored, columns as figures
    or as changes of scene; titles: how the paper calls such rows. digits: of its values.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    titles: Mapping[str, str] = field(default_factory=dict)
    digits: int = 2

    def row(self, name: str) -> dict[str, float | None]:
        """Return the values of a row by column; empty for a row that is not there."""
        values = dict(self.rows).get(name, ())
        return dict(zip(self.columns, values, strict=False))
