"""A split inside torch's DataLoader: an IterableDataset of whole batches.

    dataset = ShardDataset("runs/x", "train", batch_size=32)
    for batch in DataLoader(dataset, batch_size=None, num_workers=4):
        batch.image  # as from avdata.loader.Loader

Ranks and worker processes share the batches: each sample comes once per epoch, in the order in
which the Loader alone gives them. The Loader's own threads are enough for most work; processes help
where much Python is done with each sample.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import IterableDataset

from avdata.loader import Batch, Loader
from avdata.shards.ranks import data_worker, rank_and_world_size

MOST_WORKERS = 1024  # processes of one DataLoader


class ShardDataset(IterableDataset[Batch]):
    """Batches of one split for this rank; iterate once per epoch, give DataLoader batch_size=None.

    options: those of `Loader`, which also raises what is wrong with them. Epochs go on by
    themselves, with or without persistent workers; `set_epoch` goes to the start of one.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        batch_size: int,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int = 0,
        **options: Any,
    ) -> None:
        # Found here, as worker processes have no process group.
        rank, world_size = rank_and_world_size(rank, world_size)
        options |= {"rank": rank, "world_size": world_size, "workers": workers}
        self.loader = Loader(folder, split, batch_size=batch_size, **options)
        # Shared, as only the workers know when an epoch ends. Of each worker: its epoch, and how
        # many samples of it are taken; none waits for another, and none sees another's next epoch.
        self._position = torch.zeros(MOST_WORKERS, 2, dtype=torch.int64)
        share: Any = self._position.share_memory_  # has no annotations
        share()

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch on this rank."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        worker, n_workers = data_worker()
        epoch, taken = self._position[worker].tolist()
        state = {**self.loader.state_dict(), "epoch": epoch, "taken": taken}
        self.loader.load_state_dict(state)
        yield from self.loader
        # Every n-th row, so that all rows are moved on whatever the number of workers is next.
        self._position[worker::n_workers] = torch.tensor([epoch + 1, 0])

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; naming the epoch that was resumed leaves it where it is."""
        if epoch != int(self._position[0, 0]):
            self._position[:] = torch.tensor([epoch, 0])

    def state_dict(self, batches: int) -> dict[str, Any]:
        """Return the position after so many batches of this epoch were used on this rank.

        DataLoader reads ahead, so only the training loop knows how many were.
        """
        epoch, taken = self._position[0].tolist()
        used = batches * self.loader.batch_size * self.loader.world_size
        return {**self.loader.state_dict(), "epoch": epoch, "taken": taken + used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises ShardError if it is from other shards, split or order."""
        self.loader.load_state_dict(state)
        self._position[:] = torch.tensor([int(state["epoch"]), int(state["taken"])])
