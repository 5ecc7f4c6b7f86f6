"""What each step of a run did with its rows, counted in the table that it wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from avdata.clip import Status
from avdata.errors import StoreError
from avdata.parsing import parse_json
from avdata.store import Store
from avdata.tables import iter_batches

TABLES = ("fetch", "trim", "tag", "select")


@dataclass
class StepFacts:
    """What one step did with the rows, counted in its own table."""

    name: str
    counts: Counter[tuple[str, str, str]]  # (status, step that wrote it, reason) -> rows
    rows_in: int
    active_in: int  # those of them that this step works on
    summary: dict[str, Any]  # the step's entry in summary.json, or empty

    @property
    def rows(self) -> int:
        return self.counts.total()

    def by_status(self, status: Status) -> int:
        return sum(n for (s, _, _), n in self.counts.items() if s == status)

    def here(self, status: Status) -> int:
        """Count the rows that this step itself gave the status."""
        return sum(
            n for (s, step, _), n in self.counts.items() if s == status and step == self.name
        )

    def reasons(self) -> Counter[tuple[str, str]]:
        """Return (status, reason) -> rows, for what this step failed or rejected."""
        found: Counter[tuple[str, str]] = Counter()
        for (status, step, reason), rows in self.counts.items():
            if step == self.name and status in (Status.FAILED, Status.REJECTED):
                found[status, reason] += rows
        return found

    @property
    def children(self) -> int:
        """Rows that this step added: one per window or event."""
        return self.rows - self.rows_in

    @property
    def active_out(self) -> int:
        return self.by_status(Status.ACTIVE) + self.here(Status.ACCEPTED)

    def to_tree(self) -> dict[str, Any]:
        """Return the counts in the form of summary.json."""
        by_reason: Counter[str] = Counter()
        for (_, reason), rows in self.reasons().items():
            by_reason[reason] += rows
        return {
            "name": self.name,
            "rows_in": self.rows_in,
            "rows_out": self.rows,
            "by_status": {str(s): rows for s in Status if (rows := self.by_status(s))},
            "by_reason": dict(sorted(by_reason.items())),
            "seconds": self.summary.get("seconds", 0.0),
        }

    @property
    def reconciles(self) -> bool:
        """Tell whether what came in, and was added, is what left in every direction."""
        gone = sum(self.here(s) for s in (Status.FAILED, Status.REJECTED, Status.EXPANDED))
        told = self.summary.get("rows_out", self.rows)
        return self.active_in + self.children - gone == self.active_out and told == self.rows


def read_json(store: Store, path: str) -> dict[str, Any]:
    """Return a JSON file of the run as a mapping; empty when it is absent.

    Raises StoreError if it is damaged.
    """
    if not store.exists(path):
        return {}
    try:
        value = parse_json(store.read_bytes(path))
    except ValueError as error:
        raise StoreError(
            f"{store.full(path)} is damaged ({error}); remove it, and the next run writes it anew"
        ) from None
    return value if isinstance(value, dict) else {}


def collect_steps(store: Store, summary: dict[str, Any]) -> list[StepFacts]:
    """Count what each step did, from the tables that belong to the summary's run."""
    told = {s["name"]: s for s in summary.get("steps", ())}
    steps: list[StepFacts] = []
    for name in TABLES:
        path = f"{name}.parquet"
        # A table that the summary does not know was left by an earlier run.
        if (told and name not in told) or not store.exists(path):
            continue
        counts = count_by(store, path, ("status", "step", "reason"))
        entry = told.get(name, {})
        if steps:
            rows_in, active_in = steps[-1].rows, steps[-1].by_status(Status.ACTIVE)
        else:
            rows_in = entry.get("rows_in", counts.total())
            start = _as_it_came(counts, name, rows_in)
            steps.append(start)
            active_in = start.by_status(Status.ACTIVE)
        steps.append(StepFacts(name, counts, rows_in, active_in, entry))
    return steps


def _as_it_came(counts: Counter[tuple[str, str, str]], first: str, rows: int) -> StepFacts:
    """Return the manifest as a step of its own: its bad rows were refused before the first step."""
    refused = Counter(
        {
            (status, "manifest", reason): n
            for (status, step, reason), n in counts.items()
            if status != Status.ACTIVE and step != first
        }
    )
    start = Counter({(str(Status.ACTIVE), "manifest", ""): rows - refused.total()}) + refused
    return StepFacts("manifest", start, rows, rows, {})


def count_by(store: Store, path: str, columns: tuple[str, ...]) -> Counter[Any]:
    """Count the rows of a Parquet file by the values of some columns."""
    counts: Counter[Any] = Counter()
    for batch in iter_batches(store, path, columns):
        counts.update(grouped(batch, columns))
    return counts


def grouped(batch: pa.RecordBatch, columns: tuple[str, ...]) -> Counter[Any]:
    """Count the rows of one batch by the values of some columns."""
    table = pa.Table.from_batches([batch]).group_by(list(columns)).aggregate([([], "count_all")])
    keys = zip(*(table[c].to_pylist() for c in columns), strict=True)
    return Counter(dict(zip(keys, table["count_all"].to_pylist(), strict=True)))
