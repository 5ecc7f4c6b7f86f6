"""Work runs here or in processes with the same outcomes; test_cluster.py adds Dask."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from avdata.errors import StoreError
from avdata.run.executors import InlineExecutor, executor
from avdata.run.jobs import Crash, Executor


def square_or_fail(number: int) -> int:
    if number == 3:
        raise ZeroDivisionError("three")
    if number == 99:
        raise StoreError("disk full")
    return number * number


def die_once(job: tuple[str, int]) -> int:
    """Kill the own worker process the first time job 2 runs."""
    marker, number = Path(job[0]), job[1]
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return number


def check_outcomes(where: Executor) -> None:
    outcomes = list(where.map(square_or_fail, iter(range(20))))
    crashes = [o for o in outcomes if isinstance(o, Crash)]
    assert sorted(o for o in outcomes if not isinstance(o, Crash)) == [
        n * n for n in range(20) if n != 3
    ]
    assert [crash.job for crash in crashes] == [3]
    assert "ZeroDivisionError" in crashes[0].error
    assert "square_or_fail" in crashes[0].traceback
    assert list(where.map(square_or_fail, iter(()))) == []
    # What only the user can solve is raised at once.
    with pytest.raises(StoreError, match="disk full"):
        list(where.map(square_or_fail, [1, 99, 2]))


def test_inline_outcomes() -> None:
    check_outcomes(InlineExecutor())


def test_the_pools_outcomes(tmp_path: Path) -> None:
    with executor() as where:
        check_outcomes(where)
        jobs = [(str(tmp_path / "died"), n) for n in range(6)]
        assert sorted(where.map(die_once, jobs)) == list(range(6))
        assert (tmp_path / "died").exists()
