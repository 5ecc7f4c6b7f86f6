"""Row numbers as batches, for features that are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avdata.errors import ShardError
from avdata.shards.sampling import epoch_order, rank_batches


class RowSource:
    """Row numbers 0..n-1 in an order of their own per epoch, for arrays that are in memory.

    of: name of what the rows are, such as a digest; a position is good for the same rows only.
    """

    def __init__(
        self,
        n: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        of: str = "",
    ) -> None:
        self.n, self.batch_size, self.seed, self.of = n, batch_size, seed, of
        self.rank, self.world_size = rank, world_size
        self._epoch, self._taken, self._resumed = 0, 0, False

    def __len__(self) -> int:
        return self.n // self.world_size // self.batch_size

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        if not self._resumed:
            self._taken = 0
        self._resumed = False
        for rows in rank_batches(
            epoch_order(self.n, self.seed, self._epoch, shuffle=True),
            taken=self._taken,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            uneven="drop",
            drop_last=True,
        ):
            self._taken += self.batch_size * self.world_size
            yield rows

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; naming the epoch that was resumed leaves it where it is."""
        if epoch != self._epoch:
            self._epoch, self._taken, self._resumed = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Return the position, the same on all ranks."""
        return {**self._identity(), "epoch": self._epoch, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position; raises ShardError if it is over other rows."""
        for name, value in self._identity().items():
            if state.get(name, value) != value:  # positions from before `of` lack it
                raise ShardError(
                    f"the position is of {name} {state[name]!r}, these rows have {value!r}"
                )
        self._epoch, self._taken, self._resumed = state["epoch"], state["taken"], True

    def _identity(self) -> dict[str, Any]:
        return {"n": self.n, "seed": self.seed, "of": self.of}
