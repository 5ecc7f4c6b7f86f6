"""Which rows of a run's last tables crashed: what a run must not pass over in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from avdata.clip import one_line
from avdata.errors import Reason
from avdata.store import Store
from avdata.tables import iter_batches

EXAMPLES = 5
COLUMNS = ("key", "url", "step", "reason", "detail")


@dataclass(frozen=True, slots=True)
class Crashed:
    """How many rows and sources crashed, and the first of the sources."""

    rows: int = 0
    sources: int = 0
    examples: tuple[str, ...] = ()  # URL, step and error

    def __str__(self) -> str:
        sources = "1 source" if self.sources == 1 else f"{self.sources} sources"
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{sources} ({rows}) crashed, first: {self.examples[0]}"

    def to_tree(self) -> dict[str, Any]:
        return asdict(self)


def find_crashed(store: Store, tables: Iterable[str]) -> Crashed:
    """Return what crashed, from the clip tables of all parts."""
    rows = 0
    sources: set[int] = set()
    examples: list[str] = []
    for table in tables:
        for batch in iter_batches(store, table, COLUMNS):
            for row in batch.to_pylist():
                if row["reason"] != Reason.CRASHED:
                    continue
                rows += 1
                url = row["url"] or f"key {row['key']}"
                if hash(url) not in sources and len(examples) < EXAMPLES:
                    examples.append(one_line(f"{url} in {row['step']}: {row['detail']}", 300))
                sources.add(hash(url))
    return Crashed(rows, len(sources), tuple(examples))
