"""Dask clusters that grow, shrink, come late or not at all, and SLURM with a stand-in sbatch."""

from __future__ import annotations

import math
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from typer.testing import CliRunner

from avdata.cli.app import app
from avdata.errors import RunError, SettingsError
from avdata.run.cluster import JOBS_PER_THREAD, LOOK_EVERY_S, DaskExecutor, local
from avdata.run.executors import executor
from avdata.run.jobs import Staged
from avdata.run.slurm import job_script
from tests.avdata.test_executors import check_outcomes, die_once, square_or_fail

QUICK = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "processes": False}


def who(_: int) -> str:
    """Return the name of the worker this runs on, after a while."""
    from distributed import get_worker

    time.sleep(0.05)
    return str(get_worker().name)


class Counted:
    """Jobs 0, 1, ..., that count how many of them were taken."""

    def __init__(self, count: int) -> None:
        self.taken = 0
        self._count = count

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            self.taken += 1
            yield number


def test_a_cluster_that_grows_gets_its_share_at_once() -> None:
    with LocalCluster(**QUICK) as cluster, Client(cluster) as client:
        jobs = Counted(200)
        outcomes = DaskExecutor(client).map(who, jobs)
        names = {next(outcomes)}
        assert jobs.taken == JOBS_PER_THREAD
        cluster.scale(3)
        client.wait_for_workers(3)
        names |= {next(outcomes), next(outcomes)}
        assert jobs.taken - 2 == 3 * JOBS_PER_THREAD  # in flight, after two that came back
        names |= set(outcomes)
        assert len(names) == 3
        assert jobs.taken == 200


def test_threads_count_not_workers() -> None:
    with (
        LocalCluster(**{**QUICK, "threads_per_worker": 5}) as cluster,
        Client(cluster) as client,
    ):
        jobs = Counted(50)
        outcomes = DaskExecutor(client).map(who, jobs)
        next(outcomes)
        assert jobs.taken == 5 * JOBS_PER_THREAD
        outcomes.close()


BOTH_FETCHED = threading.Barrier(2)


def fetch(job: int) -> int:
    BOTH_FETCHED.wait(timeout=30)  # one alone would wait for ever
    return job * 10


COMPUTING = threading.Lock()


def compute_alone(job: int) -> int:
    assert COMPUTING.acquire(blocking=False)
    time.sleep(0.05)
    COMPUTING.release()
    return job + 1


def test_jobs_are_fetched_while_others_compute_one_per_thread() -> None:
    with LocalCluster(**QUICK) as cluster, Client(cluster) as client:
        outcomes = DaskExecutor(client).map(Staged(fetch, compute_alone, 2), range(6))
        assert sorted(outcomes) == [1, 11, 21, 31, 41, 51]


@pytest.mark.slow
def test_outcomes_and_the_loss_of_a_worker(tmp_path: Path) -> None:
    with executor(workers=2) as where:
        check_outcomes(where)
        jobs = [(str(tmp_path / "died"), n) for n in range(6)]
        assert sorted(where.map(die_once, jobs)) == list(range(6))
        assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_a_job_that_kills_every_worker_has_died() -> None:
    import dask

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), local(1) as where:
        (crash,) = where.map(os._exit, [3])
    assert crash.died
    assert crash.job == 3
    assert "KilledWorker" in crash.error


def test_a_running_scheduler_is_used_and_its_dashboard_named() -> None:
    said: list[str] = []
    with LocalCluster(**{**QUICK, "dashboard_address": "127.0.0.1:0"}) as cluster:
        with executor(scheduler=cluster.scheduler_address, say=said.append) as where:
            assert sorted(where.map(square_or_fail, [1, 2])) == [1, 4]
        port = cluster.dashboard_link.rpartition(":")[2]  # the host has several names
        assert re.fullmatch(rf"dashboard: http://[^ ]+:{port}", *said)


def test_a_worker_may_come_late() -> None:
    said: list[str] = []
    with LocalCluster(**{**QUICK, "n_workers": 0}) as cluster:
        coming = threading.Timer(0.3, cluster.scale, (1,))
        coming.start()
        with executor(scheduler=cluster.scheduler_address, say=said.append) as where:
            assert sorted(where.map(square_or_fail, [1, 2])) == [1, 4]
        assert said[-1:] == ["waiting up to 60 s for the first worker (--wait-s)"]
        coming.join()


def test_when_no_worker_comes_or_all_have_gone_the_run_ends_and_says_so() -> None:
    with LocalCluster(**{**QUICK, "n_workers": 0}) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(RunError, match=f"`dask worker {address}`; none came within 0 s"):
            with executor(scheduler=address, wait_s=0.2):
                pass
        cluster.scale(1)
        with executor(scheduler=address, wait_s=0.2) as where:
            outcomes = where.map(square_or_fail, iter(range(4, 1000)))
            next(outcomes)
            time.sleep(0.3)  # results lie on the worker that goes
            cluster.scale(0)
            with pytest.raises(RunError, match="has had no worker for 0 s"):
                list(outcomes)


def test_results_that_went_with_their_worker_are_made_again() -> None:
    with LocalCluster(**QUICK) as cluster, Client(cluster) as client:
        outcomes = DaskExecutor(client).map(square_or_fail, iter(range(4, 10)))
        first = next(outcomes)
        time.sleep(0.3)
        cluster.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        threading.Timer(LOOK_EVERY_S + 0.5, cluster.scale, [1]).start()
        assert sorted([first, *outcomes]) == [n * n for n in range(4, 10)]


def test_a_scheduler_that_forgets_the_jobs_ends_the_run() -> None:
    with LocalCluster(**QUICK) as cluster, Client(cluster) as client:
        outcomes = DaskExecutor(client).map(who, iter(range(100)))
        next(outcomes)
        client.restart(wait_for_workers=False)
        with pytest.raises(RunError, match="lost or restarted"):
            list(outcomes)


def test_wrong_cluster_options_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one of --workers, --scheduler and --slurm"):
        with executor(workers=0, scheduler="tcp://127.0.0.1:1"):
            pass
    with pytest.raises(SettingsError, match="no Dask scheduler answers at nonsense"):
        with executor(scheduler="nonsense://127.0.0.1:1"):
            pass
    path = tmp_path / "slurm.yaml"
    for text, message in (
        ("cores: 1", "must be YAML with `jobs`"),
        ("jobs: many", "must be YAML with `jobs`"),
        ("jobs: 0\ncores: 1\nmemory: 1GB", "jobs must be at least 1"),
        ("jobs: 1\nmemory: 1GB", "cores"),
        ("jobs: 1\ncores: 1\nmemory: 1GB\ninterface: lo\npartition: x", "unexpected.*partition"),
        ("jobs: 1\ncores: 1\nmemory: 1GB\ninterface: nowhere0", "nowhere0"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError, match=message):
            job_script(str(path))


# --- SLURM ---------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A file for --slurm that works on this machine alone."""
    pytest.importorskip("dask_jobqueue")
    path = tmp_path / "slurm.yaml"
    path.write_text(
        "jobs: 1\ncores: 1\nprocesses: 1\nmemory: 1GB\nqueue: short\nwalltime: '00:10:00'\n"
        f"interface: lo\npython: {sys.executable}\n"
        "scheduler_options: {dashboard_address: null}\n"
        f"log_directory: {tmp_path}/logs\n"
    )
    return path


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    tools = folder / "bin"
    tools.mkdir()
    for name, body in scripts.items():
        tool = tools / name
        tool.write_text(f"#!/usr/bin/env bash\n{body}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.slow
def test_slurm_jobs_are_submitted_and_work(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dask-jobqueue drives a stand-in sbatch, which runs the real job script on this machine."""
    stand_in(
        tmp_path,
        monkeypatch,
        sbatch=f"[ $1 != --test-only ] || exit 0; cd {tmp_path}; cp $1 job.sh\n"
        "setsid bash job.sh > job.log 2>&1 &\n"
        f"echo $! > {tmp_path}/pid; echo Submitted batch job 17",
        scancel=f"kill -- -$(cat {tmp_path}/pid)",
    )
    said: list[str] = []
    with executor(slurm=str(slurm), say=said.append) as where:
        assert sorted(where.map(math.factorial, [4, 5])) == [24, 120]
    assert "submitted 1 SLURM job" in said
    script = (tmp_path / "job.sh").read_text()
    assert "#SBATCH -p short" in script
    assert "#SBATCH -t 00:10:00" in script


def test_a_job_that_slurm_refuses_or_never_starts(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(
        tmp_path,
        monkeypatch,
        sbatch=f"if [ -e {tmp_path}/open ]; then echo Submitted batch job 17; else\n"
        "echo 'sbatch: error: invalid partition specified: short' >&2; exit 1; fi",
        scancel=f"echo $1 > {tmp_path}/cancelled",
    )
    with pytest.raises(
        SettingsError, match=r"SLURM refuses the job of .*invalid partition specified"
    ):
        with executor(slurm=str(slurm)):
            pass
    (tmp_path / "open").touch()
    with pytest.raises(RunError, match="no SLURM job has started a worker: look at `squeue -u"):
        with executor(slurm=str(slurm), wait_s=0.2):
            pass
    assert (tmp_path / "cancelled").read_text() == "17\n"


def test_without_sbatch_the_script_can_still_be_seen(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match=r"sbatch, which is not on the PATH.*--dry-run"):
        with executor(slurm=str(slurm)):
            pass
    manifest = tmp_path / "m.csv"
    manifest.write_text("url\na.mp4\n")
    shown = CliRunner().invoke(
        app,
        ["fetch", str(manifest), "-o", str(tmp_path / "run"), "--slurm", str(slurm), "--dry-run"],
    )
    assert shown.exit_code == 0, shown.exception
    assert shown.output.startswith("#!/")
    assert re.search(r"^#SBATCH -p short$", shown.output, re.MULTILINE)
    assert f"{sys.executable} -m distributed.cli.dask_worker tcp://" in shown.output
    assert not (tmp_path / "run").exists()
    alone = CliRunner().invoke(app, ["fetch", str(manifest), "-o", "x", "--dry-run"])
    assert isinstance(alone.exception, SettingsError)
