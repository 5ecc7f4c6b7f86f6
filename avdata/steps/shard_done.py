"""What is recorded of a written shard, so that a rerun writes only what is not there and whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from avdata.shards.checked import SHARD_FILE, SHARD_NAME, is_sha256, rows_problem, shard_file
from avdata.shards.folder import FOLDER
from avdata.shards.index import index_schema
from avdata.shards.sealed import parse_json, seal
from avdata.steps.shard_rows import PLAN_FOLDER, ShardPlan
from avdata.store import Store, sha256_file

DONE_FOLDER = f"{FOLDER}/.done"
RECORD_FILE = re.compile(rf"({SHARD_NAME})\.(json|parquet)")


@dataclass(frozen=True, slots=True)
class ShardStats:
    """A written shard, and the rows of the index that belong to it."""

    name: str  # split and number; the name of its file tells the content too
    split: str
    digest: str  # of its plan
    clips: int
    bytes: int
    sha256: str
    rows_sha256: str

    @property
    def file(self) -> str:
        return shard_file(self.name, self.sha256)


def rows_path(name: str) -> str:
    """Return the path of a shard's rows of the index."""
    return f"{DONE_FOLDER}/{name}.parquet"


def _record_path(name: str) -> str:
    return f"{DONE_FOLDER}/{name}.json"


def write_record(store: Store, stats: ShardStats) -> None:
    """Record that the shard and its rows are there; written last."""
    store.write_bytes(_record_path(stats.name), seal(asdict(stats)))


def read_done(store: Store, plan: ShardPlan) -> ShardStats | None:
    """Return what is recorded of a shard if that and the shard are there, whole and as planned.

    The tar is compared by its size, in a `deep` plan by its checksum.
    """
    import pyarrow as pa

    try:
        data = store.read_bytes(_record_path(plan.name))
        record = parse_json(data)
        if not is_sha256(record["sha256"]):
            return None
        path = f"{FOLDER}/{shard_file(plan.name, record['sha256'])}"
        stats = ShardStats(
            name=plan.name,
            split=plan.split,
            digest=plan.digest,
            clips=plan.clips,
            bytes=store.size(path),
            sha256=record["sha256"],
            rows_sha256=record["rows_sha256"],
        )
        if data != seal(asdict(stats)) or not _rows_are_whole(store, stats):
            return None
        if plan.deep:
            with store.local(path) as tar:
                return stats if sha256_file(tar) == stats.sha256 else None
        return stats
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException):
        return None  # a damaged record is none


def _rows_are_whole(store: Store, stats: ShardStats) -> bool:
    import pyarrow.parquet as pq

    with store.local(rows_path(stats.name)) as path:
        if sha256_file(path) != stats.rows_sha256:
            return False
        rows = pq.read_table(path)
    return (
        rows.schema.equals(index_schema(rows.column_names))
        and rows.num_rows == stats.clips
        and not rows_problem(rows, {stats.file: stats.bytes})
    )


def remove_superseded(store: Store, stats: Sequence[ShardStats]) -> None:
    """Remove the tars and records that do not belong to the dataset, and the plans themselves."""
    files, names = {stat.file for stat in stats}, {stat.name for stat in stats}
    for file in store.list(FOLDER):
        if SHARD_FILE.fullmatch(file) and file not in files:
            store.delete(f"{FOLDER}/{file}")
    for folder, keep in ((DONE_FOLDER, names), (PLAN_FOLDER, set[str]())):
        for file in store.list(folder):
            shard = RECORD_FILE.fullmatch(file)
            if shard and shard[1] not in keep:
                store.delete(f"{folder}/{file}")
