"""A split inside torch's DataLoader: an IterableDataset of whole batches.

    dataset = ShardDataset("runs/x", "train", batch_size=32)
    for batch in DataLoader(dataset, batch_size=None, num_workers=4):
        batch.image  # as from avdata.loader.Loader

Ranks and worker processes share the batches: each sample comes once per epoch, in the order in
which the Loader alone gives them. The Loader's own threads are enough for most work; processes help
where much Python is done with each sample. What a worker leaves out is told by `batch.skipped`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from avdata.loader import Batch, Loader
from avdata.shards.ranks import data_worker, rank_and_world_size

MAX_WORKERS = 4096  # of one DataLoader


class ShardDataset(IterableDataset[Batch]):
    """Batches of one split for this rank; iterate once per epoch, give DataLoader batch_size=None.

    options: those of `Loader`, which also raises what is wrong with them. Epochs go on by
    themselves, with or without persistent workers; `set_epoch` goes to the start of one. One that
    is broken off begins again, or is over if the workers had read all of it ahead.
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
        # Shared, as only the workers know when an epoch ends. Each worker's next epoch: the lowest
        # is the one to play, as a worker that has not even begun has not finished either.
        self._next_epoch = _shared(MAX_WORKERS)
        self._resumed = _shared(2)  # an epoch, and how many of its samples were taken before

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch on this rank."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        # No generator: the epoch is read when the worker begins, not when it is first asked.
        worker, n_workers = data_worker()
        epoch = int(self._next_epoch[:n_workers].min())
        resumed, taken = self._resumed.tolist()
        self._go_to(epoch, taken if epoch == resumed else 0)
        return self._play(epoch, worker, n_workers)

    def _play(self, epoch: int, worker: int, n_workers: int) -> Iterator[Batch]:
        yield from self.loader
        self._next_epoch[worker] = epoch + 1
        if worker == 0:  # for workers that there may be next time
            self._next_epoch[n_workers:] = epoch + 1

    def _go_to(self, epoch: int, taken: int) -> None:
        state = {**self.loader.state_dict(), "epoch": epoch, "taken": taken}
        self.loader.load_state_dict(state)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; naming the epoch that was resumed leaves it where it is."""
        self._next_epoch.fill_(epoch)
        if epoch != int(self._resumed[0]):
            self._resumed.zero_()

    def state_dict(self, *, epoch: int, batches: int) -> dict[str, Any]:
        """Return the position after so many batches of `epoch` were used on this rank.

        DataLoader reads ahead, so only the training loop knows which and how many were.
        """
        resumed, taken = self._resumed.tolist()
        before = taken if epoch == resumed else 0
        used = batches * self.loader.batch_size * self.loader.world_size
        return {**self.loader.state_dict(), "epoch": epoch, "taken": before + used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises ShardError if it is from other shards, split or order."""
        self.loader.load_state_dict(state)
        self._next_epoch.fill_(int(state["epoch"]))
        self._resumed.copy_(torch.tensor([int(state["epoch"]), int(state["taken"])]))


def _shared(size: int) -> Tensor:
    """Return zeros that this process and its workers see alike, int64 [size]."""
    zeros = torch.zeros(size, dtype=torch.int64)
    share: Any = zeros.share_memory_  # has no annotations
    share()
    return zeros
