"""Which part of the data is this process's: its rank among all, its place among data workers."""

from __future__ import annotations

import os
import sys

from avdata.errors import SettingsError


def rank_and_world_size(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return rank and world size: those given, else torch's process group, else torchrun's.

    torch is not imported: a program that has a process group has done so. Raises ValueError if one
    is given without the other, SettingsError if RANK and WORLD_SIZE of the environment make no
    sense: taken as a process alone, each of many would read everything.
    """
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise ValueError(f"give rank and world_size together, got {rank} and {world_size}")
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    texts = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if texts in ((None, None), (None, "1")):  # Lightning Fabric sets the second of one process
        return 0, 1
    try:
        rank, world_size = (int(text or "") for text in texts)
    except ValueError:
        rank, world_size = 0, 0
    if not 0 <= rank < world_size:
        raise SettingsError(
            f"the environment says RANK={texts[0]} and WORLD_SIZE={texts[1]}, which must be whole "
            "numbers, RANK the lower one: set both, unset both, or give rank and world_size"
        )
    return rank, world_size


def data_worker() -> tuple[int, int]:
    """Return the number of this worker process of torch's DataLoader, and how many there are."""
    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
