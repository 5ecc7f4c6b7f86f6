"""The default executor: processes that may die, be interrupted, or lose the process above them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from avdata.cores import cores
from avdata.errors import StoreError
from avdata.run.executors import executor
from avdata.run.jobs import Crash, Staged
from avdata.run.pool import PoolExecutor


@dataclass(frozen=True)
class Job:
    number: int
    folder: Path
    fetched_by: int = 0


def note(job: Job, stage: str) -> int:
    """Write down that a stage of the job began; return how often it has begun by now."""
    with (job.folder / f"{stage}-{job.number}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(pids(job.folder, stage, job.number))


def pids(folder: Path, stage: str, number: int) -> list[int]:
    path = folder / f"{stage}-{number}"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def die() -> None:
    """End the process as a decoder does that writes where it must not."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def fetch(job: Job) -> Job:
    note(job, "fetch")
    return Job(job.number, job.folder, os.getpid())


def fetch_deadly(job: Job) -> Job:
    """Die at job 2, with others in flight; job 3 brings its process down the first time only."""
    times = note(job, "fetch")
    if job.number == 2 or (job.number == 3 and times == 1):
        time.sleep(0.1)
        die()
    return job


def compute(job: Job) -> tuple[int, int, int]:
    note(job, "compute")
    return job.number, job.fetched_by, os.getpid()


def compute_deadly(job: Job) -> int:
    times = note(job, "compute")
    if job.number == 4 or (job.number == 5 and times == 1):
        die()
    return job.number


def compute_slowly(job: Job) -> int:
    note(job, "compute")
    time.sleep(0.2)
    return job.number


def fail_to_fetch(job: Job) -> Job:
    if job.number == 1:
        raise KeyError("a bug")
    return job


def no_space(job: Job) -> Job:
    raise StoreError(f"disk full at {job.number}")


def unpicklable(job: Job) -> Callable[[], int]:
    return lambda: job.number


def sleep_for_ever(job: Job) -> int:
    note(job, "compute")
    time.sleep(600)
    return job.number


@pytest.fixture
def pool() -> PoolExecutor:
    return PoolExecutor(2)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    return [Job(number, tmp_path) for number in range(8)]


def test_the_default_is_a_process_per_core() -> None:
    with executor() as where:
        assert isinstance(where, PoolExecutor)
    assert cores() == len(os.sched_getaffinity(0))


def test_a_containers_share_of_the_cores_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr("avdata.cores.CPU_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for text, count in (("max 100000", 64), ("400000 100000", 4), ("20000 100000", 1)):
        quota.write_text(text)
        assert cores() == count


def test_stages_run_in_processes_of_their_own(pool: PoolExecutor, jobs: list[Job]) -> None:
    done = list(pool.map(Staged(fetch, compute, 3), jobs))
    assert sorted(number for number, _, _ in done) == list(range(8))
    assert len({fetching for _, fetching, _ in done}) == 1
    computing = {process for _, _, process in done}
    assert len(computing) <= 2
    assert not computing & {os.getpid(), done[0][1]}


def test_fetching_runs_ahead_of_computing_but_not_far(pool: PoolExecutor, tmp_path: Path) -> None:
    jobs = (Job(number, tmp_path) for number in range(100))
    outcomes = pool.map(Staged(fetch, compute_slowly, 2), jobs)
    next(outcomes)
    time.sleep(0.1)
    fetched = len(list(tmp_path.glob("fetch-*")))
    computed = len(list(tmp_path.glob("compute-*")))
    # Two compute, two each wait for them, two may be on their way and as many were let in before.
    assert computed < fetched <= computed + 2 * 2 + 2 * 2
    outcomes.close()


def test_a_death_while_fetching_costs_one_job_and_no_other(
    pool: PoolExecutor, jobs: list[Job]
) -> None:
    outcomes = list(pool.map(Staged(fetch_deadly, compute, 4), jobs))
    (crash,) = (o for o in outcomes if isinstance(o, Crash))
    assert (crash.job, crash.died) == (jobs[2], True)
    assert "SIGSEGV" in crash.error
    assert sorted(o[0] for o in outcomes if not isinstance(o, Crash)) == [0, 1, 3, 4, 5, 6, 7]


def test_a_death_while_computing_costs_one_job_and_no_other(
    pool: PoolExecutor, jobs: list[Job]
) -> None:
    outcomes = list(pool.map(compute_deadly, jobs))
    (crash,) = (o for o in outcomes if isinstance(o, Crash))
    assert (crash.job, crash.died) == (jobs[4], True)
    assert sorted(o for o in outcomes if not isinstance(o, Crash)) == [0, 1, 2, 3, 5, 6, 7]
    assert [len(pids(jobs[0].folder, "compute", n)) for n in range(8)] == [1, 1, 1, 1, 2, 2, 1, 1]


def test_a_bug_while_fetching_is_a_crash_of_the_job_as_it_was_given(
    pool: PoolExecutor, jobs: list[Job]
) -> None:
    outcomes = list(pool.map(Staged(fail_to_fetch, compute, 2), jobs))
    (crash,) = (o for o in outcomes if isinstance(o, Crash))
    assert (crash.job, crash.died) == (jobs[1], False)
    assert "fail_to_fetch" in crash.traceback
    assert len(outcomes) == 8


def test_what_only_the_user_can_solve_is_raised_at_once(
    pool: PoolExecutor, jobs: list[Job]
) -> None:
    with pytest.raises(StoreError, match="disk full at"):
        list(pool.map(Staged(no_space, compute, 2), jobs))
    assert len(list(pool.map(compute, jobs))) == 8


def test_an_outcome_that_cannot_be_sent_is_a_crash(pool: PoolExecutor, jobs: list[Job]) -> None:
    (crash,) = pool.map(unpicklable, jobs[:1])
    assert isinstance(crash, Crash)
    assert crash.job == jobs[0]
    assert "pickle" in crash.error


def test_leaving_early_stops_the_work(pool: PoolExecutor, tmp_path: Path) -> None:
    outcomes = pool.map(compute_slowly, (Job(number, tmp_path) for number in range(100)))
    next(outcomes)
    outcomes.close()
    running = [pid for path in tmp_path.glob("compute-*") for pid in map(int, path.open())]
    assert not [pid for pid in running if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


PROGRAM = """
import sys
from pathlib import Path
from avdata.run.executors import executor
from tests.avdata.test_pool import Job, sleep_for_ever

if __name__ == "__main__":
    with executor() as pool:
        list(pool.map(sleep_for_ever, [Job(n, Path(sys.argv[1])) for n in range(4)]))
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program whose jobs never end, when the first of them has begun."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    process = start(script, tmp_path)
    while not list(tmp_path.glob("compute-*")) and process.poll() is None:
        time.sleep(0.02)
    yield process
    process.kill()
    process.wait()


def start(script: Path, folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(
    program: subprocess.Popen[str], ending: signal.Signals
) -> None:
    below = psutil.Process(program.pid).children(recursive=True)
    assert len(below) >= 2
    if ending == signal.SIGINT:  # from a terminal it reaches all of them
        os.killpg(program.pid, ending)
    else:
        program.send_signal(ending)
    _, errors = program.communicate(timeout=30)
    assert not psutil.wait_procs(below, timeout=30)[1]
    assert errors.count("Traceback") == (ending == signal.SIGINT)  # of the program alone


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM.replace('if __name__ == "__main__":', "if True:"))
    _, errors = start(script, tmp_path).communicate(timeout=60)
    assert 'needs `if __name__ == "__main__":`' in errors.splitlines()[-1]


def makes_an_array(_: int) -> bool:
    """Make an arrow array and tell whether pandas is there now."""
    import pyarrow

    pyarrow.array([1])
    return "pandas" in sys.modules


def test_the_processes_never_load_pandas() -> None:
    pytest.importorskip("pandas")
    assert list(PoolExecutor(1).map(makes_an_array, [0])) == [False]


def test_a_run_never_loads_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "clips.csv").write_text("path\nnone.mp4\n")
    code = (
        f"import sys; sys.argv = ['avdata', 'fetch', {str(tmp_path / 'clips.csv')!r}, '-o', "
        f"{str(tmp_path / 'run')!r}]\nfrom avdata.cli import main\ntry: main()\n"
        "except SystemExit: print(sorted({'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "['pyarrow']" in done.stdout, done
