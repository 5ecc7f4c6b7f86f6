"""Where work runs: in this process, or on a Dask cluster. What runs is the same.

An executor maps a function over jobs and gives outcomes as they finish. An exception in one job
is a `Crash` outcome and never stops the others; an AvdataError (disk full, missing weights) would
meet every job alike and is raised at once.
"""

from __future__ import annotations

import logging
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from avdata.errors import AvdataError, SettingsError
from avdata.parsing import parse_yaml

if TYPE_CHECKING:
    from distributed import Client

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Crash:
    """A job that failed by a bug or by the loss of its workers."""

    job: Any
    error: str
    traceback: str
    died: bool = False  # the process that ran it was killed


class Executor(Protocol):
    """Runs jobs somewhere; outcomes come in any order."""

    threads_per_job: int  # 0: a job may use every core

    def map(self, function: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R | Crash]:
        """Yield `function(job)` or a `Crash` for every job."""
        ...


class InlineExecutor:
    """Runs jobs one after the other in this process."""

    threads_per_job = 0

    def map(self, function: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R | Crash]:
        for job in jobs:
            try:
                yield function(job)
            except AvdataError:
                raise
            except Exception as error:
                yield Crash(job, repr(error), traceback.format_exc())


class DaskExecutor:
    """Runs jobs on the workers of a Dask cluster.

    Only a few jobs per worker are handed out at a time, so that the scheduler's memory does not
    grow with the run. Jobs of lost workers are rescheduled by Dask; jobs that lose several
    workers in a row become crashes.
    """

    threads_per_job = 1

    def __init__(self, client: Client) -> None:
        self.client = client

    def map(self, function: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R | Crash]:
        from distributed import as_completed

        pending = iter(jobs)
        running: dict[Any, J] = {}
        completed = as_completed()

        def submit(count: int) -> None:
            for job in islice(pending, count):
                # Jobs have effects on disk: never let Dask answer from its cache.
                future = self.client.submit(function, job, pure=False, retries=0)
                running[future.key] = job
                completed.add(future)

        submit(4 * max(1, len(self.client.scheduler_info()["workers"])))
        for future in completed:
            job = running.pop(future.key)
            error = future.exception()
            if isinstance(error, AvdataError):
                self.client.cancel(list(completed.futures))
                raise error
            if error is not None:
                lines = traceback.format_exception(error)
                yield Crash(job, repr(error), "".join(lines))
            else:
                yield future.result()
            future.release()
            submit(1)


@contextmanager
def executor(
    workers: int = 0, scheduler: str | None = None, slurm: str | None = None
) -> Iterator[Executor]:
    """Give the executor the options ask for.

    workers    0: this process; N: a Dask LocalCluster of N processes
    scheduler  address of a running Dask scheduler, e.g. tcp://10.0.0.1:8786
    slurm      YAML file: `jobs` and the keyword arguments of dask_jobqueue.SLURMCluster
    """
    if sum((workers > 0, scheduler is not None, slurm is not None)) > 1:
        raise SettingsError("give one of --workers, --scheduler and --slurm, not several")
    if scheduler is not None:
        with _scheduler_client(scheduler) as client:
            yield DaskExecutor(client)
    elif slurm is not None:
        with _slurm_client(slurm) as client:
            yield DaskExecutor(client)
    elif workers > 0:
        with _local_client(workers) as client:
            yield DaskExecutor(client)
    else:
        yield InlineExecutor()


@contextmanager
def _local_client(workers: int) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.worker.daemon": False}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
            preload=__name__,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def dask_setup(worker: Any) -> None:
    """Make a worker ignore Ctrl-C in a terminal; Dask calls this where the module is preloaded.

    The process that runs the cluster gets it too, and ends the workers in good order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _scheduler_client(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout="15s")
    except (OSError, TimeoutError, ValueError) as error:
        raise SettingsError(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise SettingsError(
                f"the Dask scheduler at {address} has no workers; "
                f"start some with `dask worker {address}`"
            )
        yield client


@contextmanager
def _slurm_client(path: str) -> Iterator[Client]:
    from distributed import Client

    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise SettingsError("--slurm needs dask-jobqueue: pip install 'avdata[cluster]'") from None
    try:
        with open(path, encoding="utf-8") as file:
            options = parse_yaml(file.read())
        jobs = options.pop("jobs")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SettingsError(
            f"{path} must be YAML with `jobs` and the options of dask_jobqueue.SLURMCluster "
            f"(cores, memory, queue, walltime, ...): {error!r}"
        ) from None
    try:
        cluster = SLURMCluster(**options)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{path}: {error}") from None
    with cluster, Client(cluster) as client:
        cluster.scale(jobs=jobs)
        client.wait_for_workers(1)
        yield client
