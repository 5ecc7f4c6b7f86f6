"""Dask: the workers of a scheduler that runs, of SLURM jobs (slurm.py), or of this machine."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from avdata.errors import AvdataError, RunError, SettingsError
from avdata.run.jobs import Crash, Executor, Staged

if TYPE_CHECKING:
    from distributed import Client

J = TypeVar("J")
R = TypeVar("R")
Say = Callable[[str], None]

JOBS_PER_THREAD = 2
LOOK_EVERY_S = 2.0  # how often the cluster is counted while nothing finishes
SCHEDULER_WAIT_S = 60.0
CHEAP = {
    # A job takes seconds: what Dask watches 2 to 100 times a second costs more than it tells.
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.daemon": False,
    # To give each freed frame back to the system costs a tenth of the decoding.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}


class DaskExecutor:
    """Runs jobs on the workers of a Dask cluster, which may grow and shrink meanwhile.

    Two jobs per thread are handed out at a time: enough to keep each thread busy, and the
    scheduler's memory does not grow with the run. Jobs of lost workers are rescheduled by Dask;
    jobs that lose several workers in a row become crashes.
    """

    threads_per_job = 1

    def __init__(self, client: Client, wait_s: float = SCHEDULER_WAIT_S) -> None:
        self.client = client
        self._wait_s = wait_s
        self._seen_s = time.monotonic()  # when there was a worker, the last time

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[R | Crash, None, None]:
        pending = iter(jobs)
        running: dict[Any, tuple[Any, J]] = {}
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            while True:
                for job in islice(pending, max(0, self._wanted() - len(running))):
                    # Jobs have effects on disk: never let Dask answer from its cache.
                    future = self.client.submit(work, function, job, pure=False, retries=0)
                    running[future.key] = (future, job)
                    future.add_done_callback(done.put)
                if not running:
                    return
                try:
                    future = done.get(timeout=LOOK_EVERY_S)
                except queue.Empty:
                    continue
                try:
                    outcome = _outcome(future, running[future.key][1])
                except TimeoutError:  # its worker went with the result: Dask does the job again
                    done.put(future)
                    continue
                del running[future.key]
                yield outcome
        finally:
            self.client.cancel([future for future, _ in running.values()], force=True)

    def _wanted(self) -> int:
        """Return how many jobs to have in flight, by the threads there are now.

        Raises RunError when there has been no worker for too long.
        """
        try:
            threads: int = sum(self.client.nthreads().values())
        except OSError as error:
            raise RunError(
                f"the Dask scheduler is gone ({error}); the same command continues where it was"
            ) from None
        now_s = time.monotonic()
        if threads:
            self._seen_s = now_s
        elif now_s - self._seen_s > self._wait_s:
            raise RunError(
                f"the cluster has had no worker for {self._wait_s:.0f} s; the same command "
                "continues where it was, and --wait-s sets how long to wait"
            )
        return JOBS_PER_THREAD * max(1, threads)


def work(function: Callable[[J], R], job: J) -> R:
    """Do a job, on a worker; while it waits for servers in its first stage, others compute."""
    if not isinstance(function, Staged):
        return function(job)
    from distributed import get_worker, secede

    turns = _turns(get_worker().state.nthreads)
    # Dask's thread is free for the next job from here on. To wait for it again (`rejoin`) can take
    # a second, so turns to compute are our own.
    secede()
    job = function.ahead(job)
    with turns:
        done: R = function.then(job)
        return done


@cache
def _turns(threads: int) -> threading.BoundedSemaphore:
    """Return what bounds how many jobs of this process compute at the same time."""
    return threading.BoundedSemaphore(threads)


def _outcome(future: Any, job: J) -> Any:
    """Return a job's result or Crash; raises TimeoutError when it does not come after all."""
    from distributed import KilledWorker

    error = future.exception(timeout=LOOK_EVERY_S)
    if future.cancelled():
        raise RunError(
            "the Dask scheduler was lost or restarted, and with it the jobs in flight; the same "
            "command continues where it was"
        )
    if isinstance(error, AvdataError):
        raise error
    if error is None:
        return future.result(timeout=LOOK_EVERY_S)
    lines = "".join(traceback.format_exception(error))
    return Crash(job, repr(error), lines, died=isinstance(error, KilledWorker))


@contextmanager
def local(workers: int) -> Iterator[Executor]:
    """Give a cluster of `workers` processes on this machine, without a dashboard."""
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set(CHEAP),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.ERROR,
            preload=__name__,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield DaskExecutor(client)


def dask_setup(worker: Any) -> None:
    """Make a worker ignore Ctrl-C in a terminal; Dask calls this where the module is preloaded.

    The process that runs the cluster gets it too, and ends the workers in good order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def at_scheduler(address: str, wait_s: float | None, say: Say) -> Iterator[Executor]:
    """Give the workers of a scheduler that runs elsewhere.

    Raises SettingsError when nothing answers, RunError when no worker comes within `wait_s`.
    """
    from distributed import Client

    try:
        client = Client(address, timeout="15s")
    except (OSError, TimeoutError, ValueError) as error:
        raise SettingsError(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        wait_s = SCHEDULER_WAIT_S if wait_s is None else wait_s
        wait_for_worker(
            client,
            wait_s,
            say,
            f"the Dask scheduler at {address} has no workers; start some with "
            f"`dask worker {address}`",
        )
        yield DaskExecutor(client, wait_s)


def wait_for_worker(client: Client, wait_s: float, say: Say, without: str) -> None:
    """Wait for the first worker; raises RunError, beginning with `without`, when none comes."""
    if client.dashboard_link:
        say(f"dashboard: {client.dashboard_link}")
    if client.nthreads():
        return
    say(f"waiting up to {wait_s:.0f} s for the first worker (--wait-s)")
    ends_s = time.monotonic() + wait_s
    while not client.nthreads():
        if time.monotonic() > ends_s:
            raise RunError(f"{without}; none came within {wait_s:.0f} s (--wait-s)")
        time.sleep(min(LOOK_EVERY_S, wait_s / 4))
