"""Tables computed once: shared among ranks, kept part by part, complete when they are there.

<folder>/<name>.npy      [N, ...]; complete if it is there
<folder>/<name>.parts/   what is done so far
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from torch import distributed

from avdata.errors import WeightsError
from avdata.store import Store
from stages.engine.display import Display

PART_ROWS = 4096  # what a killed computation loses at most, per rank

Floats = NDArray[np.float32]


def computed_once(
    folder: Path,
    name: str,
    n_rows: int,
    compute: Callable[[range], Iterator[Floats]],
    *,
    title: str,
    console: Console | None = None,
) -> Floats:
    """Return the table [n_rows, ...] of this name, a memory map; computed if it is not there.

    compute: yields what a range of rows holds, batch by batch. It is asked for parts of PART_ROWS,
    which the ranks share and which are kept until all are there. title: what is computed, to be
    shown. Raises WeightsError for values that are not finite.
    """
    store, parts = Store(str(folder)), Store(str(folder / f"{name}.parts"))
    ranges = pieces(range(n_rows), PART_ROWS)
    rank, world_size = _rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f".{name}.lock", rank):
        if not store.exists(f"{name}.npy"):
            missing = [part for part in ranges if not parts.exists(_file(part))]
            _barrier()  # all ranks divide the same list
            mine, on = missing[rank::world_size], console if rank == 0 else None
            display = Display(on or Console(quiet=True), title, 0, sum(map(len, mine)), samples=1)
            try:
                _compute(parts, mine, compute, display)
            finally:
                display.close()
            _barrier()
            if rank == 0:
                with store.writing(f"{name}.npy") as path:
                    _join(parts, ranges, path)
            _barrier()
        if rank == 0:
            shutil.rmtree(parts.root, ignore_errors=True)
    table: Floats = np.load(store.full(f"{name}.npy"), mmap_mode="r")
    return table


def pieces(rows: range, size: int) -> list[range]:
    """Return consecutive rows in pieces of `size`; the last may be shorter."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _compute(
    parts: Store,
    ranges: Sequence[range],
    compute: Callable[[range], Iterator[Floats]],
    display: Display,
) -> None:
    """Write these parts, each of which appears when it is complete."""
    done = 0
    for part in ranges:
        blocks = []
        for block in compute(part):
            if not np.isfinite(block).all():
                raise WeightsError(
                    f"the {display.title} are not finite: look for NaN in the weights of the "
                    "network that makes them"
                )
            blocks.append(block)
            done += len(block)
            display.show(done)
        with parts.writing(_file(part)) as path, path.open("wb") as file:
            np.save(file, np.concatenate(blocks))


def _file(part: range) -> str:
    return f"{part.start}-{part.stop}.npy"


def _join(parts: Store, ranges: Sequence[range], path: Path) -> None:
    """Write all parts one after the other into one file."""
    first = np.load(parts.full(_file(ranges[0])), mmap_mode="r")
    shape = (ranges[-1].stop, *first.shape[1:])
    table = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for part in ranges:
        table[part.start : part.stop] = np.load(parts.full(_file(part)), mmap_mode="r")
    table.flush()


@contextmanager
def _alone(path: Path, rank: int) -> Iterator[None]:
    """Keep another program off the same table: it waits, and then finds it made."""
    import filelock

    if rank == 0:
        with filelock.FileLock(path):
            _barrier()
            yield
    else:
        _barrier()
        yield


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _barrier() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
