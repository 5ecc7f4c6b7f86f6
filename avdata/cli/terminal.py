"""Tables for the terminal, safe for whatever text a clip carries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from avdata.clip import Status, one_line
from avdata.errors import RETRYABLE
from avdata.report import charts

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


def new_console(quiet: bool = False) -> Console:
    """Return a console on standard output; wide enough for the tables where it is no terminal.

    quiet: it prints nothing, and neither do warnings.
    """
    from rich.console import Console

    if quiet:
        logging.getLogger("avdata").setLevel(logging.ERROR)
        return Console(quiet=True)
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, LOG_WIDTH))


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print what a run made, as its summary.json tells it: steps, shards, what to do next."""
    steps = summary.get("steps", ())
    console.print(steps_table(steps))
    if shards := summary.get("shards"):
        console.print(shard_table(shards["splits"]))
    if bad := summary.get("bad_rows"):
        console.print(
            Text(f"{charts.whole(bad)} bad rows in the manifest: avdata manifest check", "dim")
        )
    found = (item for step in steps for item in step["by_reason"].items())
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


def steps_table(steps: Iterable[Mapping[str, Any]]) -> Table:
    """Return the rows of each step by what became of them; `steps` as in summary.json."""
    names = ("step", "in", "out", *map(str, Status), "time", "reasons")
    table = plain_table(*names, numbers=range(1, 8))
    for step in steps:
        counts = step["by_status"]
        table.add_row(
            clean(step["name"]),
            charts.whole(step["rows_in"]),
            charts.whole(step["rows_out"]),
            *(count(counts.get(str(s), 0), STYLES[s]) for s in Status),
            charts.seconds_text(step["seconds"]) if step["seconds"] else "",
            reasons(step["by_reason"]),
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
