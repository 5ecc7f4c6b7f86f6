"""Processes of this machine: one that fetches, and one per core that computes.

The first stage of staged work (downloads) runs in threads of a process of its own, some jobs ahead
of the others, so that neither the network nor the cores wait for the other. Processes, not threads,
because a decoder that crashes on a stranger's file then ends one job, not the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any, TypeVar

from avdata.errors import AvdataError
from avdata.run.jobs import Crash, Staged
from avdata.run.worker import Task, Worker, pool_context

J = TypeVar("J")
R = TypeVar("R")
READY_PER_PROCESS = 2
"""Jobs for each computing process that may have been fetched and wait."""


class PoolExecutor:
    """Runs jobs in processes of this machine, replaced when they die.

    A job whose process dies is run again in another one, alone; when that dies too, it is a Crash.
    """

    threads_per_job = 1

    def __init__(self, processes: int) -> None:
        self._processes = processes
        # What they are forked from imports for as long as planning takes: let it begin now.
        pool_context()

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[R | Crash, None, None]:
        stages = self._stages(function)
        pending = iter(jobs)
        try:
            while True:
                self._take(pending, stages)
                for stage in stages:
                    stage.hand_out()
                busy = {w.connection: (s, w) for s in stages for w in s.workers if w.tasks}
                if not busy:
                    return
                for connection in wait(list(busy)):
                    stage, worker = busy[connection]  # type: ignore[index]
                    for task, outcome in stage.collect(worker):
                        if isinstance(outcome, AvdataError):
                            raise outcome
                        if isinstance(outcome, Crash):
                            yield Crash(task.job, outcome.error, outcome.traceback, outcome.died)
                        elif stage is stages[-1]:
                            yield outcome
                        else:
                            task.now, task.tried_alone = outcome, False
                            stages[-1].waiting.append(task)
        finally:
            # Idle ones go too: they are made again in no time, and hold memory meanwhile.
            for stage in stages:
                for worker in stage.workers:
                    worker.kill()

    def _stages(self, function: Callable[[J], R]) -> list[_Stage]:
        computing = [Worker(threads=1) for _ in range(self._processes)]
        if not isinstance(function, Staged):
            return [_Stage(function, computing)]
        fetching = Worker(threads=function.at_once)
        return [_Stage(function.ahead, [fetching]), _Stage(function.then, computing)]

    def _take(self, pending: Iterator[Any], stages: list[_Stage]) -> None:
        """Take on as many jobs as the first stage has hands for, unless enough are ready."""
        first, last = stages[0], stages[-1]
        while not first.waiting and any(worker.free for worker in first.workers):
            if first is not last and len(last.waiting) >= READY_PER_PROCESS * len(last.workers):
                return
            for job in pending:
                first.waiting.append(Task(job, job))
                first.hand_out()
                break
            else:
                return


class _Stage:
    """A function, the workers that run it, and the tasks that wait for one of them."""

    def __init__(self, function: Callable[[Any], Any], workers: list[Worker]) -> None:
        self.function = function
        self.workers = workers
        self.waiting: deque[Task] = deque()
        self._suspects: deque[Task] = deque()  # their process died, by one of them or otherwise

    def hand_out(self) -> None:
        """Give waiting tasks to free workers; suspects go first, each to a worker of its own."""
        for worker in self.workers:
            if self._suspects and not worker.tasks:
                worker.give(self.function, self._suspects.popleft())
            while self.waiting and not self._suspects and worker.free:
                worker.give(self.function, self.waiting.popleft())

    def collect(self, worker: Worker) -> list[tuple[Task, Any]]:
        """Return the task that a worker has finished, or those that its death has decided."""
        try:
            return [worker.receive()]
        except EOFError:
            tasks, ending = worker.bury()
        decided: list[tuple[Task, Any]] = []
        for task in tasks:
            if task.tried_alone:
                decided.append((task, Crash(task.job, ending, "", died=True)))
            else:
                task.tried_alone = True
                self._suspects.append(task)
        return decided
