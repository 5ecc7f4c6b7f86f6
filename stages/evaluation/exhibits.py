"""What a family shows of itself beside the shared figures: a table, and perhaps a plot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.evaluation.cells import Table

if TYPE_CHECKING:
    from stages.evaluation.scores import Sampling
    from stages.evaluation.studio import Studio
    from stages.metrics.projection import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """What an exhibit is made from. systems: names of those that are scored."""

    studio: Studio
    systems: Collection[str]
    sampling: Sampling
    projection: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A table of text, its figures as plain values, and a plot (SVG); name: of its file."""

    name: str
    table: Table
    figures: Mapping[str, Any] = field(default_factory=dict)
    plot: str | None = None


def exhibit_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return the tables of all exhibits."""
    return [
        Table(
            own["title"],
            tuple(own["notes"]),
            tuple(own["header"]),
            tuple(tuple(row) for row in own["rows"]),
        )
        for own in results["exhibits"].values()
    ]
