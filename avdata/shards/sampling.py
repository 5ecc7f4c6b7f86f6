"""Which sample comes when, and on which rank: pure functions of seed, epoch and position.

In every epoch the split's samples stand in one order that all ranks share. Step by step, the ranks
together take the next `batch_size * world_size` of them, rank r every world_size-th one from r. So
"how many of this epoch are taken" says it all, and training can go on with another batch size or
another number of ranks without losing or repeating a sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from avdata.seeding import rng_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

Uneven = Literal["drop", "repeat", "keep"]
"""What to do when the samples do not divide by the ranks.

drop: leave out the last few of this epoch's order, others in each epoch; all ranks get equal
batches, so none waits for another in a collective operation. repeat: the first few come again at
the end; equal batches, nothing left out. keep: every sample exactly once; some ranks have one
more, for work without collective operations.
"""


def epoch_order(n: int, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of `n` samples in this epoch, the same on every rank."""
    if not shuffle:
        return np.arange(n, dtype=np.int64)
    return rng_for(seed, "loader", f"epoch {epoch}").permutation(n)


def rank_batches(
    order: NDArray[np.int64],
    *,
    taken: int,
    batch_size: int,
    rank: int,
    world_size: int,
    uneven: Uneven,
    drop_last: bool,
) -> list[NDArray[np.int64]]:
    """Return the batches that `rank` gets of the part of `order` that is not taken yet.

    With `drop_last` a last batch of fewer than `batch_size` is left out.
    """
    rest = order[taken:]
    odd = rest.size % world_size
    if odd and uneven == "drop":
        rest = rest[: rest.size - odd]
    elif odd and uneven == "repeat":
        rest = np.concatenate([rest, np.resize(order, world_size - odd)])
    mine = rest[rank::world_size]
    if drop_last:
        mine = mine[: mine.size // batch_size * batch_size]
    return [mine[start : start + batch_size] for start in range(0, mine.size, batch_size)]
