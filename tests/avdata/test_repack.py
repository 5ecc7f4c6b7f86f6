"""Packing again while somebody reads: the right data or a ShardError, never another clip's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from avdata.errors import ShardError
from avdata.loader import Loader
from avdata.shards.folder import read_dataset
from avdata.shards.verify import verify
from avdata.steps.shard import finish_shards, plan_shards, write_shard
from avdata.store import Store
from tests.repacked import AGAIN, CLIPS, SETTINGS, Read, copy_parts, count
from tests.shard_factory import pack


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield Store(str(tmp_path / "run"))
        return
    import fsspec

    yield Store("memory://repack-test")
    fsspec.filesystem("memory").rm("/repack-test", recursive=True)


@pytest.fixture
def tables(store: Store, tmp_path: Path) -> tuple[str, str]:
    tables = copy_parts(Store(str(tmp_path / "run")), store)
    pack(store, tables[:1], SETTINGS)
    return tables


def read_with(loader: Loader, number: int) -> Read:
    """Return the sample that comes at this place of the first epoch."""
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "taken": number})
    batch = next(iter(loader))
    return Read(batch.keys[0], batch.image[0], batch.audio[0])


@pytest.mark.parametrize("way", AGAIN)
def test_an_open_loader_never_mixes_up_clips(
    store: Store, tables: tuple[str, str], way: str
) -> None:
    loader = Loader(store.root, batch_size=1, workers=0)
    assert count(range(4), lambda n: read_with(loader, n)) == (4, 0)
    AGAIN[way](store, tables)
    right, refused = count(range(64), lambda n: read_with(loader, n))
    assert right + refused == 64
    if way == "the same":
        assert refused == 0
    else:
        assert refused > 0
        assert len(Loader(store.root, batch_size=1)) == 64 + (way == "one more clip")
    assert verify(store.root, deep=True) == []


def test_a_loader_reads_on_until_the_new_shards_are_complete(
    store: Store, tables: tuple[str, str]
) -> None:
    loader = Loader(store.root, batch_size=1, workers=0)
    plans = plan_shards(store, tables[:1], SETTINGS, 1)
    stats = [write_shard(store, plan, SETTINGS) for plan in plans]
    assert count(range(64), lambda n: read_with(loader, n)) == (64, 0)
    finish_shards(store, plans, stats, SETTINGS)
    assert count(range(64), lambda n: read_with(loader, n)) == (0, 64)


def test_an_index_of_another_packing_is_not_read(store: Store, tables: tuple[str, str]) -> None:
    first = {n: store.read_bytes(f"shards/{n}") for n in ("dataset.json", "index.parquet")}
    pack(store, tables[:1], SETTINGS, seed=1)
    for name, data in first.items():
        new = store.read_bytes(f"shards/{name}")
        store.write_bytes(f"shards/{name}", data)
        with pytest.raises(ShardError, match=r"index\.parquet is not the index that dataset\.json"):
            Loader(store.root, batch_size=1)
        store.write_bytes(f"shards/{name}", new)
    Loader(store.root, batch_size=1)


def test_names_tell_the_content(store: Store, tables: tuple[str, str]) -> None:
    files = read_dataset(Store(store.full("shards")))["files"]
    assert len(files) == 4
    for number, (name, facts) in enumerate(sorted(files.items())):
        assert name == f"train-{number:06d}-{facts['sha256'][:12]}.tar"
        content = store.read_bytes(f"shards/{name}")
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
    index = json.loads(store.read_bytes("shards/dataset.json"))["index"]
    assert index["name"] == "index.parquet"
    assert sum(facts["clips"] for facts in files.values()) == len(CLIPS)


def test_a_deleted_tar_is_told_from_a_folder_packed_again(
    store: Store, tables: tuple[str, str]
) -> None:
    loader = Loader(store.root, batch_size=1, workers=0)
    for name in read_dataset(Store(store.full("shards")))["files"]:
        store.delete(f"shards/{name}")
    with pytest.raises(ShardError, match="a file is missing that was there before"):
        next(iter(loader))
