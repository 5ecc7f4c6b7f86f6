"""What a paper reports, to be set beside our own figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table: names of columns, and rows of a name and its values; None where none is given."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]

    def row(self, name: str) -> dict[str, float | None]:
        """Return the values of a row by column; empty for a row that is not there."""
        values = dict(self.rows).get(name, ())
        return dict(zip(self.columns, values, strict=False))
