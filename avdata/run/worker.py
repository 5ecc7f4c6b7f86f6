"""One process of the pool, seen from both sides.

It takes jobs from a pipe, works on a few at a time, and answers through the pipe. When the other
end of the pipe closes, because the run is over or was killed, the process ends at once.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.connection import Connection
from threading import Lock, current_thread, main_thread
from types import FrameType
from typing import Any

from avdata.errors import RunError
from avdata.run.jobs import Crash, attempt

PRELOADED = "avdata.run.preload"


@dataclass(slots=True, eq=False)
class Task:
    """A job on its way."""

    job: Any  # as it was given
    now: Any  # as the stages so far have made it
    tried_alone: bool = False  # its process died while others ran there: the next death is its own


@dataclass(slots=True, eq=False)
class Worker:
    """A process that runs up to `threads` jobs at a time; it starts when it gets the first one."""

    threads: int
    tasks: dict[int, Task] = field(default_factory=dict)  # those it works on
    _process: Any = None
    _connection: Connection | None = None
    _sent: int = 0
    _answered: bool = False

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    @property
    def free(self) -> bool:
        """Whether it can take another task."""
        alone = any(task.tried_alone for task in self.tasks.values())
        return len(self.tasks) < self.threads and not alone

    def give(self, function: Callable[[Any], Any], task: Task) -> None:
        """Hand a task over; the process may have died unnoticed, which `receive` then tells."""
        if self._connection is None:
            self._start()
        self._sent += 1
        self.tasks[self._sent] = task
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send((self._sent, function, task.now))

    def receive(self) -> tuple[Task, Any]:
        """Return a finished task with what came of it; raises EOFError if the process is gone."""
        try:
            number, outcome = self.connection.recv()
        except ConnectionResetError:
            raise EOFError from None
        self._answered = True
        return self.tasks.pop(number), outcome

    def bury(self) -> tuple[list[Task], str]:
        """Return the tasks that a dead process had, and how it ended; the next task starts anew."""
        tasks = list(self.tasks.values())
        process, answered = self._process, self._answered
        process.join()
        self.kill()
        if process.exitcode == 1 and not answered:
            raise RunError(
                "the processes of the pool do not start (see above); a script of one's own that "
                'runs pipelines needs `if __name__ == "__main__":` around what it does'
            )
        return tasks, _ending(process.exitcode)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        if self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
        self._process = self._connection = None
        self._answered = False
        self.tasks = {}

    def _start(self) -> None:
        # Ctrl-C waits until there is a process, which can be ended, or none.
        with deferred_interrupt():
            context = pool_context()
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, self.threads))
            process.start()
            theirs.close()  # or its end would never be seen
            self._connection, self._process = ours, process


def pool_context() -> Any:
    """Return how processes are made: forked from a small one without threads, never from here.

    The small one is started, if it is not there yet, and goes on importing while this returns.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    # Ctrl-C in a terminal reaches every process, and these from their start: they inherit the mask.
    resource_tracker.ensure_running()  # as part of what follows, it would undo the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C is noted, and takes effect at the end.

    A mask would not do: another thread would take the signal, and the main one be interrupted.
    """
    if current_thread() is not main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda *seen: came.append(seen))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


def serve(connection: Connection, threads: int) -> None:
    """Work off what comes through the connection: number, function, job; this is the process."""
    sending = Lock()

    def work(number: int, function: Callable[[Any], Any], job: Any) -> None:
        outcome = attempt(function, job)
        with sending:
            try:
                connection.send((number, outcome))
            except (OSError, EOFError):  # nobody listens any more
                os._exit(1)
            except Exception as error:  # it cannot be pickled
                connection.send((number, Crash(None, repr(error), traceback.format_exc())))

    pool = ThreadPoolExecutor(threads, "job")
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # what is on disk is whole at any time
        pool.submit(work, *task)


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was killed by {name}"
