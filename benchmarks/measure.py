"""Run commands and count what all their processes took: `measure`.

As a program it is the process above them, so that what it counts is theirs alone. It adopts
processes whose parents end first (Linux's child subreaper), or their CPU time would be lost.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Cost:
    """What commands took; peak is the memory of all their processes together."""

    wall_s: float
    cpu_s: float
    peak_mb: float

    def best(self, other: Cost) -> Cost:
        """Return the smaller times and the larger peak."""
        return Cost(
            min(self.wall_s, other.wall_s),
            min(self.cpu_s, other.cpu_s),
            max(self.peak_mb, other.peak_mb),
        )


def measure(commands: Sequence[Sequence[str]]) -> Cost:
    """Run commands one after the other and return what they took together."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure"],
        input=json.dumps(commands), text=True, check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return Cost(**json.loads(process.stdout.splitlines()[-1]))


def _run(commands: Sequence[Sequence[str]]) -> Cost:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    done = threading.Event()
    sampled: list[float] = [0.0]
    sampler = threading.Thread(target=_sample, args=(sampled, done))
    sampler.start()
    begin = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True)
    wall_s = time.monotonic() - begin
    done.set()
    sampler.join()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, sampled[0])


def _sample(peak_mb: list[float], done: threading.Event) -> None:
    """Keep the largest sum over the processes below this one; shared memory counts once."""
    while not done.wait(SAMPLE_S):
        total = 0
        for process in psutil.Process().children(recursive=True):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has just ended
                continue
        peak_mb[0] = max(peak_mb[0], total / 2**20)


if __name__ == "__main__":
    print(json.dumps(asdict(_run(json.load(sys.stdin)))))
