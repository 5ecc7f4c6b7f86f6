"""The time that work takes, on the CPU or on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from stages.engine.batches import Batches


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long the work takes, what it leaves the device to do included."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(
    variants: Mapping[str, Callable[[], None]],
    device: torch.device,
    *,
    rounds: int,
    steps: int,
    batch: int,
) -> None:
    """Print the time of a step of each variant, its best of all rounds, and the ratio to the first.

    Each is run once before. On a CPU it is the process's own time, so that what else runs on the
    machine does not count.
    """
    best = dict.fromkeys(variants, float("inf"))
    for run in variants.values():
        seconds(run, device)  # compiles, picks algorithms
    for _ in range(rounds):
        for name, run in variants.items():
            clock = time.perf_counter if device.type == "cuda" else time.process_time
            started = clock()
            seconds(lambda run=run: [run() for _ in range(steps)], device)  # type: ignore[misc]
            best[name] = min(best[name], (clock() - started) / steps)
    first = next(iter(best.values()))
    print(f"{'batch ' + str(batch):46}{'ms per step':>12}{'samples/s':>11}{'ratio':>8}")
    for name, took in best.items():
        print(f"{name:46}{1000 * took:12.1f}{batch / took:11.1f}{first / took:8.2f}")


def waited(
    batches: Batches[Any, Any], step: Callable[[Any], None], device: torch.device, steps: int
) -> float:
    """Return the share of the time of `steps` steps that goes by waiting for their batches."""
    seconds(lambda: step(next(batches)), device)
    before = batches.waited_s
    took = seconds(lambda: [step(next(batches)) for _ in range(steps)], device)
    return (batches.waited_s - before) / took
