"""shard, run once more over what it left: damaged or forged records are none, all is repaired."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from avdata.config import ShardSettings
from avdata.shards.sealed import seal
from avdata.shards.verify import verify
from avdata.store import Store
from tests.shard_factory import Made, pack, tar_of, write_table

SETTINGS = ShardSettings(max_clips=3, splits={"train": 1.0})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def table(store: Store) -> str:
    table = write_table(store, "a", [Made(n) for n in range(6)])
    pack(store, [table], SETTINGS)
    return table


def state(store: Store) -> dict[str, bytes]:
    """Every file below shards/, by its path."""
    root = Path(store.full("shards"))
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_record_of_a_shard_is_made_again(
    store: Store, table: str, suffix: str, damage: bytes | None
) -> None:
    before = state(store)
    records = list(Path(store.full("shards/.done")).glob(f"*.{suffix}"))
    assert records
    for record in records:
        record.unlink() if damage is None else record.write_bytes(damage)
    pack(store, [table], SETTINGS)
    assert state(store) == before


def test_a_flipped_bit_in_anything_but_a_tar_is_repaired_by_a_rerun(
    store: Store, table: str
) -> None:
    rng, before = random.Random(0), state(store)
    for name in sorted(name for name in before if not name.endswith(".tar")):
        for _ in range(6):
            flip(Path(store.full(f"shards/{name}")), rng)
            pack(store, [table], SETTINGS)
            assert state(store) == before, name


def test_a_flipped_bit_in_a_tar_is_repaired_by_a_deep_rerun(store: Store, table: str) -> None:
    rng, before = random.Random(0), state(store)
    for name in ("train-000000", "train-000001"):
        flip(tar_of(Path(store.full("shards")), name), rng)
    pack(store, [table], SETTINGS)
    assert len(verify(store.root)) == 2, "a rerun that is not deep goes by names and sizes"
    pack(store, [table], SETTINGS, deep=True)
    assert state(store) == before
    assert verify(store.root) == []


FORGED: dict[str, Any] = {
    "another shard": {"name": "train-000001"},
    "another plan": {"digest": "0" * 64},
    "outside": {"sha256": "/../../../etc/passwd"},
    "no checksum": {"sha256": None},
    "a number that is none": {"bytes": float("nan")},
    "too many clips": {"clips": 10**30},
    "as a text": {"clips": "3"},
    "rows of somebody else": {"rows_sha256": hashlib.sha256(b"").hexdigest()},
    "a word too many": {"extra": 1},
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_is_none(store: Store, table: str, name: str) -> None:
    before = state(store)
    record = Path(store.full("shards/.done/train-000000.json"))
    record.write_bytes(seal(json.loads(record.read_bytes()) | FORGED[name]))
    pack(store, [table], SETTINGS)
    assert state(store) == before


@pytest.mark.parametrize("path", [".done/train-000000.json", ".plan/plan.json"])
@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"[]", b"null", b"\xff", b'{"sha256": ["x"]}', b"1" * 5000]
)
def test_records_of_any_kind_are_read(store: Store, table: str, path: str, text: bytes) -> None:
    before = state(store)
    Path(store.full(f"shards/{path}")).write_bytes(text)
    pack(store, [table], SETTINGS)
    assert state(store) == before


def test_rows_that_lead_out_of_their_shard_are_written_again(store: Store, table: str) -> None:
    import pyarrow.parquet as pq

    before = state(store)
    path = Path(store.full("shards/.done/train-000000.parquet"))
    rows = pq.read_table(path)
    wild = [{**row, "audio_offset": 2**62} for row in rows.to_pylist()]
    pq.write_table(type(rows).from_pylist(wild, rows.schema), path)
    record = path.with_suffix(".json")
    checksum = {"rows_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    record.write_bytes(seal(json.loads(record.read_bytes()) | checksum))
    pack(store, [table], SETTINGS)
    assert state(store) == before


def test_shards_of_before_are_packed_again_under_names_that_tell_their_content(
    store: Store, table: str
) -> None:
    before = state(store)
    folder = Path(store.full("shards"))
    for name in ("train-000000", "train-000001"):
        tar = tar_of(folder, name)
        facts = {"name": name, "split": "train", "digest": "x", "clips": 3, "sha256": "x"}
        (folder / f".done/{name}.json").write_text(
            json.dumps({**facts, "bytes": tar.stat().st_size})
        )
        tar.rename(folder / f"{name}.tar")
    pack(store, [table], SETTINGS)
    assert state(store) == before
