"""Where work runs: in this process, in processes of this machine (pool.py), or on a Dask cluster
(cluster.py). What runs is the same.

An executor maps a function over jobs and gives outcomes as they finish. An exception in one job
is a `Crash` outcome and never stops the others; an AvdataError (disk full, missing weights) would
meet every job alike and is raised at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from avdata.cores import cores
from avdata.errors import AvdataError, SettingsError
from avdata.run.jobs import Crash, Executor, J, R, attempt

log = logging.getLogger(__name__)


class InlineExecutor:
    """Runs jobs one after the other in this process: for debugging, and for tests that patch."""

    threads_per_job = 0

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[R | Crash, None, None]:
        for job in jobs:
            outcome = attempt(function, job)
            if isinstance(outcome, AvdataError):
                raise outcome
            yield outcome


@contextmanager
def executor(
    workers: int | None = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    *,
    wait_s: float | None = None,
    say: Callable[[str], None] = log.info,
) -> Iterator[Executor]:
    """Give the executor the options ask for; without any, processes on all cores.

    workers    0: this process; N: a Dask LocalCluster of N processes
    scheduler  address of a running Dask scheduler, e.g. tcp://10.0.0.1:8786
    slurm      YAML file: `jobs` and the keyword arguments of dask_jobqueue.SLURMCluster
    wait_s     how long a cluster may be without any worker
    say        told what a person wants to know: the dashboard's address, what is waited for
    """
    if sum((workers is not None, scheduler is not None, slurm is not None)) > 1:
        raise SettingsError("give one of --workers, --scheduler and --slurm, not several")
    if workers == 0:
        yield InlineExecutor()
        return
    if workers is None and scheduler is None and slurm is None:
        from avdata.run.pool import PoolExecutor

        yield PoolExecutor(cores())
        return
    from avdata.run import cluster
    from avdata.run.slurm import submitted

    where: AbstractContextManager[Executor]
    if scheduler is not None:
        where = cluster.at_scheduler(scheduler, wait_s, say)
    elif slurm is not None:
        where = submitted(slurm, wait_s, say)
    else:
        assert workers is not None
        where = cluster.local(workers)
    with where as dask:
        yield dask
