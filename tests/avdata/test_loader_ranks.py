"""Which share of the data a process gets by itself: torchrun, groups, DataLoader workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

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
    state = again.state_dict(batches=4)
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
    monkeypatch.setenv("RANK", "first")
    assert rank_and_world_size() == (0, 1)
    with pytest.raises(ValueError, match="together, got 0 and None"):
        Loader(folder, "train", batch_size=1, rank=0)


def test_a_batch_pickles_and_keeps_its_types(folder: Path) -> None:
    (batch, *_) = DataLoader(
        ShardDataset(folder, "train", batch_size=2), batch_size=None, num_workers=1
    )
    assert batch.image.dtype.name == "uint8"
    assert torch.from_numpy(batch.audio).dtype == torch.int16
