"""Which clips the report shows: a random, class-balanced few, found in one pass.

The choice depends on seed and keys alone, so the same run gives the same report.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from avdata.clip import Clip, Status
from avdata.seeding import keyed_hash
from avdata.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MAX_GROUPS = 2048
ROWS_AT_ONCE = 512

Group = tuple[str, str]  # (status, class or reason)


@dataclass
class Sampler:
    """Keeps, per group, the few rows with the smallest keyed hash; groups are bounded likewise."""

    seed: int = 0
    per_group: int = 24
    chosen: dict[Group, list[tuple[int, int]]] = field(default_factory=dict)  # -(hash), position
    _order: list[tuple[int, Group]] = field(default_factory=list)  # heap: -(group's hash), group

    def add_batch(
        self,
        batch: pa.RecordBatch,
        position: int,
        labels: Sequence[Sequence[str] | None],
        strongest: Sequence[int | None],
    ) -> None:
        """Consider the rows of a batch whose first row is row `position` of the table."""
        columns = zip(
            *(batch[c].to_pylist() for c in ("key", "status", "step", "reason")),
            labels,
            strongest,
            strict=True,
        )
        for offset, (key, status, step, reason, names, heard) in enumerate(columns):
            if status == Status.EXPANDED:
                continue
            if status == Status.FAILED:
                kind = f"{step}/{reason}"
            elif status == Status.REJECTED:
                kind = str(reason)
            else:
                kind = names[0] if names else f"#{heard}"
            self._add((status, kind), keyed_hash(self.seed, "report", key), position + offset)

    def _add(self, group: Group, priority: int, position: int) -> None:
        kept = self.chosen.get(group)
        if kept is None:
            order = (-keyed_hash(self.seed, "report", "/".join(group)), group)
            if len(self._order) >= MAX_GROUPS:
                if order < self._order[0]:
                    return
                _, dropped = heapq.heapreplace(self._order, order)
                del self.chosen[dropped]
            else:
                heapq.heappush(self._order, order)
            kept = self.chosen[group] = []
        if len(kept) < self.per_group:
            heapq.heappush(kept, (-priority, position))
        elif -priority > kept[0][0]:
            heapq.heapreplace(kept, (-priority, position))

    def of(self, status: str) -> dict[str, list[int]]:
        """Return group name -> row positions, best first, for the groups of one status."""
        return {
            name: [position for _, position in sorted(kept, reverse=True)]
            for (s, name), kept in sorted(self.chosen.items())
            if s == status
        }

    def balanced(self, statuses: Sequence[str], count: int) -> list[int]:
        """Return up to `count` row positions, taking one of each group in turn."""
        groups = [g for s in statuses for g in self.of(s).items()]
        groups.sort(key=lambda g: keyed_hash(self.seed, "report", g[0]))
        rounds = [rows[n] for n in range(self.per_group) for _, rows in groups if n < len(rows)]
        return rounds[:count]


def clips_at(store: Store, path: str, positions: Sequence[int]) -> dict[int, Clip]:
    """Return the clips at some row positions of a clip table, reading only their row groups."""
    import pyarrow.parquet as pq

    found: dict[int, Clip] = {}
    wanted = sorted(set(positions))
    with store.open(path) as file, pq.ParquetFile(file) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            inside = [p for p in wanted if first <= p < first + rows]
            if inside:
                start = first
                for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
                    for p in inside:
                        if start <= p < start + batch.num_rows:
                            found[p] = Clip.from_row(batch.slice(p - start, 1).to_pylist()[0])
                    start += batch.num_rows
            first += rows
    return found
