"""Work runs here or on Dask with the same outcomes, and losing a worker costs only its part."""

from __future__ import annotations

import math
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from avdata.errors import SettingsError, StoreError
from avdata.run.executors import Crash, Executor, InlineExecutor, executor


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


@pytest.mark.slow
def test_dask_outcomes_and_the_loss_of_a_worker(tmp_path: Path) -> None:
    with executor(workers=2) as where:
        check_outcomes(where)
        jobs = [(str(tmp_path / "died"), n) for n in range(6)]
        assert sorted(where.map(die_once, jobs)) == list(range(6))
        assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_a_running_scheduler_is_used() -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False
    ) as cluster:
        with executor(scheduler=cluster.scheduler_address) as where:
            assert sorted(where.map(square_or_fail, [1, 2])) == [1, 4]


def test_wrong_cluster_options_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one of --workers, --scheduler and --slurm"):
        with executor(workers=1, scheduler="tcp://127.0.0.1:1"):
            pass
    with pytest.raises(SettingsError, match="no Dask scheduler answers at nonsense"):
        with executor(scheduler="nonsense://127.0.0.1:1"):
            pass
    path = tmp_path / "slurm.yaml"
    path.write_text("cores: 1")
    with pytest.raises(SettingsError, match="must be YAML with `jobs`"):
        with executor(slurm=str(path)):
            pass


@pytest.mark.slow
def test_slurm_jobs_are_submitted_and_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dask-jobqueue drives a stand-in sbatch, which runs the real job script on this machine."""
    pytest.importorskip("dask_jobqueue")
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = {
        "sbatch": f'cd {tmp_path}; cp "$1" job.sh; setsid bash job.sh > job.log 2>&1 &\n'
        f"echo $! > {tmp_path}/pid; echo Submitted batch job 17",
        "scancel": f"kill -- -$(cat {tmp_path}/pid)",
    }
    for name, body in scripts.items():
        tool = tools / name
        tool.write_text(f"#!/usr/bin/env bash\n{body}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    settings = tmp_path / "slurm.yaml"
    settings.write_text(
        "jobs: 1\ncores: 1\nprocesses: 1\nmemory: 1GB\nqueue: short\nwalltime: '00:10:00'\n"
        f"interface: lo\npython: {sys.executable}\n"
        "scheduler_options: {dashboard_address: null}\n"
        f"log_directory: {tmp_path}/logs\n"
    )
    with executor(slurm=str(settings)) as where:
        assert sorted(where.map(math.factorial, [4, 5])) == [24, 120]
    script = (tmp_path / "job.sh").read_text()
    assert "#SBATCH -p short" in script
    assert "#SBATCH -t 00:10:00" in script
