"""Which part of the data is this process's: its rank among all, its place among data workers."""

from __future__ import annotations

import os
import sys


def rank_and_world_size(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return rank and world size: those given, else torch's process group, else torchrun's.

    torch is not imported: a program that has a process group has done so. Raises ValueError if one
    is given without the other.
    """
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise ValueError(f"give rank and world_size together, got {rank} and {world_size}")
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1


def data_worker() -> tuple[int, int]:
    """Return the number of this worker process of torch's DataLoader, and how many there are."""
    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
