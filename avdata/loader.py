"""From shards to batches: seeded, split over ranks, decoded by threads, resumable anywhere.

    loader = Loader("runs/x/shards", "train", batch_size=32)
    for batch in loader:  # one epoch, this process's share under torchrun
        batch.image  # uint8 [batch, height, width, 3]
        batch.audio  # int16 [batch, samples]

Needs neither torch nor a run; for torch's DataLoader there is avdata/torch_dataset.py. Members are
read by byte range, so an epoch is a true permutation of the split, no shuffle within a window.
Pictures and sound are handed over as integers, to be normalised on the device, which saves most of
the copying.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from avdata.errors import ShardError
from avdata.shards.ahead import ahead
from avdata.shards.batch import Batch
from avdata.shards.batch_reader import BadSamples, BatchReader
from avdata.shards.folder import open_folder, read_dataset
from avdata.shards.ranks import data_worker, rank_and_world_size
from avdata.shards.sampling import Uneven, epoch_order, rank_batches
from avdata.shards.views import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "Loader"]

log = logging.getLogger(__name__)


class Loader:
    """One split's batches for one rank; iterate once per epoch.

    Rank and world size are those of torch's process group or of torchrun's environment, unless they
    are given; a process alone gets everything. In a worker process of torch's DataLoader, each
    worker gets its share of the rank's batches.

    Iterating starts the epoch from its beginning, or, after `load_state_dict`, where the state was
    taken; a finished epoch moves on to the next. Order and content of batches depend on the
    arguments, never on `workers`. At most `workers + prefetch` batches are held in memory, beside
    the one handed out.

    folder: of shards, or the run that made them; local or any fsspec URL.
    batch_size: per rank. uneven: see `sampling.Uneven`. workers: threads; 0 decodes in the caller.
    view: which crop and stretch, or the picture or the sound alone, see `View`; chance in it is
    keyed by seed, epoch and clip. Only sound can be read of clips that have no picture.
    bad_samples: "skip" leaves a sample that cannot be decoded out of its batch, which is then
    smaller, so that ranks stay in step; `skipped` names them, with the reason. check: compare every
    sample with its checksum in the index, so that one that decodes but was changed is bad too.

    Raises ShardError if the folder is incomplete, the split is not there, or its clips differ in
    what must be the same throughout a batch; and in an epoch of which nothing can be decoded.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int = 2,
        prefetch: int = 2,
        shuffle: bool = True,
        uneven: Uneven = "drop",
        drop_last: bool = False,
        view: View | None = None,
        bad_samples: BadSamples = "raise",
        check: bool = False,
    ) -> None:
        self._place_given = rank is not None
        rank, world_size = rank_and_world_size(rank, world_size)
        if batch_size < 1 or workers < 0 or prefetch < 0 or not 0 <= rank < world_size:
            raise ValueError(
                f"need batch_size >= 1, workers >= 0, prefetch >= 0 and 0 <= rank < world_size, "
                f"got {batch_size}, {workers}, {prefetch} and {rank} of {world_size}"
            )
        self.view = view or View()
        self.split, self.seed, self.rank, self.world_size = split, seed, rank, world_size
        self.batch_size, self.uneven, self.drop_last = batch_size, uneven, drop_last
        self.workers, self.prefetch, self.shuffle = workers, prefetch, shuffle
        self.skipped: dict[str, str] = {}  # key of a sample that was left out: why
        self._store = open_folder(folder)
        dataset = read_dataset(self._store)
        self._digest: str = dataset["digest"]
        self._reader = BatchReader(
            self._store, dataset, split, self.view, seed=seed, bad_samples=bad_samples, check=check
        )
        self.sample_rate_hz, self.n_samples = self._reader.sample_rate_hz, self._reader.n_samples
        self._epoch, self._taken, self._resumed = 0, 0, False

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch on this rank."""
        return len(self._batches(np.arange(len(self._reader)), 0))

    def __iter__(self) -> Iterator[Batch]:
        if not self._resumed:
            self._taken = 0
        self._resumed = False
        epoch, start = self._epoch, self._taken
        order = epoch_order(len(self._reader), self.seed, epoch, self.shuffle)
        worker, n_workers = data_worker()
        if n_workers == 1:
            self._require_same_place()
        mine, handed_out = self._batches(order, start)[worker::n_workers], 0
        batches = ahead(
            mine,
            lambda rows: self._reader.read(rows, epoch),
            self.workers,
            self.prefetch,
        )
        for number, batch in enumerate(batches, start=1):
            # Counted before it is handed over: a state taken while it is in use includes it.
            taken = number * n_workers * self.batch_size * self.world_size
            self._taken = min(order.size, start + taken)
            self._account(batch)
            if len(batch):
                handed_out += 1
                yield batch
        if mine and not handed_out:
            raise ShardError(
                f"not one of the samples of {self.split} that were to be read can be decoded; "
                f"`avdata verify {self._store.root}` tells what is damaged"
            )
        self._epoch, self._taken = epoch + 1, 0

    def _account(self, batch: Batch) -> None:
        """Note what was left out of a batch, once."""
        for key, why in batch.skipped.items():
            if key not in self.skipped:
                self.skipped[key] = why
                log.warning("%s in %s is left out: %s", key, self._store.root, why)
        if not len(batch) and self.world_size > 1 and self.uneven != "keep":
            raise ShardError(
                f"not one of the {len(batch.skipped)} samples of a batch can be decoded, and "
                "without it this rank falls out of step with the others; `avdata verify "
                f"{self._store.root}` tells what is damaged"
            )

    def _require_same_place(self) -> None:
        """Raise ShardError if the ranks became known only after this loader was made."""
        place = self.rank, self.world_size
        if not self._place_given and (now := rank_and_world_size()) != place:
            raise ShardError(
                f"this loader was made for rank {place[0]} of {place[1]}, but the process is rank "
                f"{now[0]} of {now[1]} by now: make it after init_process_group, or give rank and "
                "world_size"
            )

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; naming the epoch that was resumed leaves it where it is."""
        if epoch != self._epoch:
            self._epoch, self._taken, self._resumed = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Return where this rank stands: the batches handed out so far count as used.

        It is the same on all ranks at the same step, and may be loaded with another batch size or
        number of ranks: what is left of the epoch is then split anew.
        """
        return {**self._identity(), "epoch": self._epoch, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises ShardError if it is from other shards, split or order."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ShardError(
                    f"this loader has {name} {value!r}, the state was taken with "
                    f"{state.get(name)!r}; resume with the same, or start a new epoch"
                )
        self._epoch, self._taken, self._resumed = int(state["epoch"]), int(state["taken"]), True

    def _identity(self) -> dict[str, Any]:
        return {
            "dataset": self._digest,
            "split": self.split,
            "seed": self.seed,
            "shuffle": self.shuffle,
        }

    def _batches(self, order: NDArray[np.int64], taken: int) -> list[NDArray[np.int64]]:
        return rank_batches(
            order,
            taken=taken,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            uneven=self.uneven,
            drop_last=self.drop_last,
        )
