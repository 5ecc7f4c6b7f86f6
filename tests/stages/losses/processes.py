"""Run a function in several processes that talk to each other, as a distributed training does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, multiprocessing
from torch import distributed as dist

Work = Callable[[int, int], dict[str, Tensor]]  # rank, world size → results


def run_in_processes(work: Work, world_size: int, folder: Path) -> list[dict[str, Tensor]]:
    """Return what `work` gives on each rank; it must be a function of a module."""
    multiprocessing.spawn(_process, (work, world_size, str(folder)), nprocs=world_size)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world_size)]


def _process(rank: int, work: Work, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    group = dist.group.WORLD  # gloo aborts now and then unless the group outlives its destruction
    torch.save(work(rank, world_size), Path(folder) / f"{rank}.pt")
    dist.barrier()
    time.sleep(0.1)
    dist.destroy_process_group()
    del group
