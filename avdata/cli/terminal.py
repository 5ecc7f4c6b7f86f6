"""Tables for the terminal, safe for whatever text a clip carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from avdata.clip import Status, one_line
from avdata.errors import RETRYABLE
from avdata.report import charts
from avdata.report.steps import StepFacts

if TYPE_CHECKING:
    from rich.console import Console

LOG_WIDTH = 120

STYLES: dict[str, str] = {
    Status.ACTIVE: "cyan",
    Status.ACCEPTED: "green",
    Status.REJECTED: "yellow",
    Status.FAILED: "red",
    Status.EXPANDED: "dim",
}


def new_console() -> Console:
    """Return a console on standard output; wide enough for the tables where it is no terminal."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, LOG_WIDTH))


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print the counts of a run's summary.json per step, and its shards."""
    table = plain_table(
        "step", "in", "out", *map(str, Status), "time", "reasons", numbers=range(1, 8)
    )
    for step in summary.get("steps", ()):
        counts = step["by_status"]
        table.add_row(
            step["name"],
            charts.whole(step["rows_in"]),
            charts.whole(step["rows_out"]),
            *(count(counts.get(str(s), 0), STYLES[s]) for s in Status),
            charts.seconds_text(step["seconds"]),
            reasons(step["by_reason"]),
        )
    console.print(table)
    if shards := summary.get("shards"):
        console.print(shard_table(shards["splits"]))
    found = (item for step in summary.get("steps", ()) for item in step["by_reason"].items())
    if retryable := sum(rows for reason, rows in found if reason in RETRYABLE):
        console.print(
            Text(f"{charts.whole(retryable)} failed rows may pass: try with --retry-failed", "dim")
        )
    print_crashed(summary, console)


def print_crashed(summary: Mapping[str, Any], console: Console) -> None:
    """Say how many rows of a run crashed, and on which sources first."""
    crashed = summary.get("crashed") or {}
    if crashed.get("rows"):
        rows = charts.whole(crashed["rows"])
        console.print(Text(f"crashed rows, which a rerun tries again: {rows}", "bold red"))
        for example in crashed["examples"]:
            console.print(clean(example, 300))


def steps_table(steps: Sequence[StepFacts]) -> Table:
    """Return what each step did with the clips that came to it."""
    names = ("step", "in", "cut", "rejected", "failed", "replaced", "go on", "reasons")
    table = plain_table(*names, numbers=range(1, 7))
    for step in steps:
        rows_of: dict[str, int] = {}
        for (_, reason), rows in step.reasons().items():
            rows_of[reason] = rows_of.get(reason, 0) + rows
        table.add_row(
            step.name,
            charts.whole(step.active_in),
            count(step.children, ""),
            *(count(step.here(s), STYLES[s]) for s in (Status.REJECTED, Status.FAILED)),
            count(step.here(Status.EXPANDED), "dim"),
            Text(charts.whole(step.active_out), "bold green"),
            reasons(rows_of),
        )
    return table


def shard_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the counts of each split."""
    table = plain_table("split", "clips", "sources", "shards", "size", numbers=range(1, 5))
    for name, split in splits.items():
        counts = (charts.whole(split.get(n, 0)) for n in ("clips", "sources", "shards"))
        table.add_row(clean(name), *counts, charts.bytes_text(split.get("bytes", 0)))
    return table


def plain_table(*names: str, numbers: Sequence[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(names):
        table.add_column(Text(name), justify="right" if index in numbers else "left")
    return table


def clean(value: Any, limit: int = 120) -> Text:
    """Return text that can neither style nor steer the terminal."""
    return Text("" if value is None else one_line(str(value), limit))


def styled(column: str, value: Any) -> Text:
    """Return a value of a clip table; a status in its colour."""
    text = clean(value)
    if column == "status":
        text.stylize(STYLES.get(value, ""))
    return text


def count(value: int, style: str) -> Text:
    """Return a count, a dim dot for none."""
    return Text(charts.whole(value), style) if value else Text("·", "dim")


def reasons(counts: Mapping[str, int]) -> Text:
    """Return reasons with their counts, most first."""
    ordered = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    return clean(", ".join(f"{reason} {rows}" for reason, rows in ordered), 200)
