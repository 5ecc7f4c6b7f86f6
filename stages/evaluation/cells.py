"""A table of text, how figures are written in it, and tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Figure = Mapping[str, float | None]
NONE = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, notes, and rows of text below a header."""

    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(title: str, lead: str, chapters: Iterable[Table]) -> str:
    """Return tables below a title and a sentence as Markdown."""
    lines = [f"# {title}", "", lead]
    for table in chapters:
        lines += ["", f"## {table.title}", ""]
        lines += [f"- {note}" for note in table.notes]
        lines += ["", _line(table.header), _line("---" for _ in table.header)]
        lines += [_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def plain(value: float | None, digits: int = 2) -> str:
    """Return a value as the papers write it."""
    return NONE if value is None else number(value, digits)


def number(value: float, digits: int) -> str:
    """Return a number as text, with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def in_column(figure: Figure | None, column: Mapping[str, Any]) -> str:
    """Return a figure as its column writes it."""
    return with_interval(figure, percent=column["percent"], digits=column["digits"])


def with_interval(figure: Figure | None, *, percent: bool = False, digits: int = 3) -> str:
    """Return "value (low to high)"; a single video gives no interval."""
    if figure is None:
        return NONE
    scale = 100 if percent else 1
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    text = NONE if value is None else number(scale * value, digits)
    if low is None or high is None:
        return f"{text} (one video)"
    return f"{text} ({number(scale * low, digits)} to {number(scale * high, digits)})"
