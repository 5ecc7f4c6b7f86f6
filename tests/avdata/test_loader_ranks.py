"""Which share of the data a process gets by itself: torchrun, groups, DataLoader workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from avdata.errors import SettingsError, ShardError
from avdata.loader import Loader
from avdata.shards.ranks import rank_and_world_size
from avdata.store import Store
from avdata.torch_dataset import ShardDataset
from tests.shard_factory import Made, pack, write_table

N = 22

SCRIPT = """
import json, os, sys
from avdata.loader import Loader
folder, out, how = sys.argv[1:]
if how == "loop":
    batches = Loader(folder, "train", batch_size=3, uneven="keep")
else:
    import torch
    from torch.utils.data import DataLoader
    from avdata.torch_dataset import ShardDataset
    if how == "group":
        torch.distributed.init_process_group("gloo")
    dataset = ShardDataset(folder, "train", batch_size=3, uneven="keep")
    batches = DataLoader(dataset, batch_size=None, num_workers=2)
seen = [[key for batch in batches for key in batch.keys] for epoch in range(2)]
with open(f"{out}/{os.environ['RANK']}.json", "w") as file:
    json.dump(seen, file)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ranks")
    store = Store(str(made))
    rows = [Made(number, split="train") for number in range(N)]
    pack(store, [write_table(store, "part", rows)])
    return made


@pytest.mark.parametrize("how", ["loop", "workers", "group"])
def test_torchrun_gives_every_sample_once(folder: Path, tmp_path: Path, how: str) -> None:
    """Two ranks, each with two worker processes: the README's loop, and torch's DataLoader."""
    script = tmp_path / "loop.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    words = [*launch, "--standalone", str(script), str(folder), str(tmp_path), how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    orders = []
    for epoch in (0, 1):
        first, second = (rank[epoch] for rank in ranks)
        assert len(first) == len(second) == N / 2
        assert Counter([*first, *second]) == dict.fromkeys(sorted({*first, *second}), 1)
        orders.append(first)
    assert orders[0] != orders[1]  # the second epoch is another one


@pytest.mark.parametrize("persistent", [False, True])
def test_worker_processes_give_the_batches_of_the_loader(folder: Path, persistent: bool) -> None:
    dataset = ShardDataset(folder, "train", batch_size=4, seed=3)
    loader = Loader(folder, "train", batch_size=4, seed=3)
    assert len(dataset) == len(loader) == 6
    batches = DataLoader(dataset, batch_size=None, num_workers=3, persistent_workers=persistent)
    for _ in range(3):
        assert [b.keys for b in batches] == [b.keys for b in loader]
    dataset.set_epoch(1)
    loader.set_epoch(1)
    assert [b.keys for b in batches] == [b.keys for b in loader]


def test_a_data_loader_goes_on_in_the_middle_of_an_epoch(folder: Path) -> None:
    dataset = ShardDataset(folder, "train", batch_size=4)
    whole = [b.keys for b in DataLoader(dataset, batch_size=None, num_workers=2)]
    next_epoch = [b.keys for b in DataLoader(dataset, batch_size=None, num_workers=2)]
    again = ShardDataset(folder, "train", batch_size=4)
    state = again.state_dict(epoch=0, batches=4)
    resumed = ShardDataset(folder, "train", batch_size=4)
    resumed.load_state_dict(state)
    rest = DataLoader(resumed, batch_size=None, num_workers=2)
    assert [b.keys for b in rest] == whole[4:]
    assert [b.keys for b in rest] == next_epoch


def test_explicit_arguments_win(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert rank_and_world_size() == (1, 4)
    assert rank_and_world_size(0, 1) == (0, 1)
    loader = Loader(folder, "train", batch_size=1, uneven="keep")
    assert (loader.rank, loader.world_size) == (1, 4)
    with pytest.raises(ValueError, match="together, got 0 and None"):
        Loader(folder, "train", batch_size=1, rank=0)


@pytest.mark.parametrize(
    "place", [("0", None), (None, "2"), ("2", "2"), ("-1", "2"), ("first", "2"), ("0", "")]
)
def test_an_environment_without_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, folder: Path, place: tuple[str | None, str | None]
) -> None:
    """Taken as a process alone, every rank would read everything."""
    for name, text in zip(("RANK", "WORLD_SIZE"), place, strict=True):
        monkeypatch.delenv(name, raising=False)
        if text is not None:
            monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=r"RANK=.* and WORLD_SIZE=.*give rank and world_size"):
        Loader(folder, "train", batch_size=1)


def test_the_process_group_tells_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    torch.distributed.init_process_group("fake", rank=2, world_size=4, store=FakeStore())
    try:
        loader = Loader(folder, "train", batch_size=2)
    finally:
        torch.distributed.destroy_process_group()
    assert (loader.rank, loader.world_size) == (2, 4)


def test_ranks_that_become_known_too_late_are_told(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """A loader made before the process group would give every rank everything."""
    loader = Loader(folder, "train", batch_size=2)
    given = Loader(folder, "train", batch_size=2, rank=0, world_size=1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ShardError, match=r"rank 0 of 1.*rank 1 of 2 by now"):
        next(iter(loader))
    assert sum(map(len, given)) == N


def _late(worker: int) -> None:
    if worker == 1:
        time.sleep(1.5)  # long enough for the other to read its whole share ahead


@pytest.mark.parametrize("batch_size", [3, 20])
def test_a_worker_that_begins_late_plays_the_same_epoch(folder: Path, batch_size: int) -> None:
    dataset = ShardDataset(folder, "train", batch_size=batch_size)
    batches = DataLoader(
        dataset, batch_size=None, num_workers=2, prefetch_factor=8, worker_init_fn=_late
    )
    expected = Loader(folder, "train", batch_size=batch_size)
    for _ in range(2):
        assert [b.keys for b in batches] == [b.keys for b in expected]


def test_the_position_is_of_the_epoch_that_is_named(folder: Path) -> None:
    """Workers may have read to its end long before the training loop is there."""
    dataset = ShardDataset(folder, "train", batch_size=4)
    batches = iter(DataLoader(dataset, batch_size=None, num_workers=2, prefetch_factor=8))
    whole = [batch.keys for batch in Loader(folder, "train", batch_size=4)]
    assert [next(batches).keys for _ in range(2)] == whole[:2]
    while int(dataset._next_epoch[0]) == 0:
        time.sleep(0.01)
    state = dataset.state_dict(epoch=0, batches=2)
    resumed = ShardDataset(folder, "train", batch_size=4)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)
    assert [b.keys for b in DataLoader(resumed, batch_size=None, num_workers=2)] == whole[2:]


@pytest.mark.parametrize("workers", [2, 0, 3])
def test_another_number_of_workers_goes_on_with_the_next_epoch(folder: Path, workers: int) -> None:
    dataset = ShardDataset(folder, "train", batch_size=4)
    loader = Loader(folder, "train", batch_size=4)
    for number in (2, workers, 1):
        batches = DataLoader(dataset, batch_size=None, num_workers=number)
        assert [b.keys for b in batches] == [b.keys for b in loader]


def test_an_epoch_that_is_broken_off_begins_again_in_all_workers(folder: Path) -> None:
    dataset = ShardDataset(folder, "train", batch_size=1)
    whole = [batch.keys for batch in Loader(folder, "train", batch_size=1)]
    batches = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    for _ in range(3):
        assert next(iter(batches)).keys == whole[0]
    assert [batch.keys for batch in batches] == whole


def test_workers_agree_on_the_epoch_after_one_has_read_its_share_of_a_broken_off_one(
    folder: Path,
) -> None:
    dataset = ShardDataset(folder, "train", batch_size=8)
    whole = [batch.keys for batch in Loader(folder, "train", batch_size=8)]
    options = {"batch_size": None, "num_workers": 2, "prefetch_factor": 8}
    broken_off = iter(DataLoader(dataset, worker_init_fn=_late, **options))
    assert next(broken_off).keys == whole[0]
    time.sleep(0.7)  # the first worker reads on to the end, the second has not begun
    del broken_off
    assert [batch.keys for batch in DataLoader(dataset, **options)] == whole


def test_a_batch_pickles_and_keeps_its_types(folder: Path) -> None:
    (batch, *_) = DataLoader(
        ShardDataset(folder, "train", batch_size=2), batch_size=None, num_workers=1
    )
    assert batch.image.dtype.name == "uint8"
    assert torch.from_numpy(batch.audio).dtype == torch.int16


def test_one_process_may_say_how_many_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning Fabric leaves WORLD_SIZE=1 behind, without a rank."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert rank_and_world_size() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="RANK=None and WORLD_SIZE=2"):
        rank_and_world_size()
