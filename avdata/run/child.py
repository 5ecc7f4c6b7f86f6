"""Work in a child process, whose death costs no more than what it worked on.

A plain child, not one of multiprocessing: those may not be had inside a Dask worker, nor in a
script that lacks the guard around its main program.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

J = TypeVar("J")
R = TypeVar("R")


CHILD = "from avdata.run.child import work_and_leave; work_and_leave()"


class ProcessDiedError(Exception):
    """The process that did the work was killed, or ended without an answer."""


def in_child(function: Callable[[J], R], job: J) -> R:
    """Return `function(job)` from a process of its own, which ends with this one at the latest.

    Function, job and result must be picklable. What the function raises is raised here, with the
    child's traceback as a note. Raises ProcessDiedError if the child died.
    """
    package = str(Path(__file__).resolve().parents[2])
    paths = filter(None, [package, os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with tempfile.TemporaryDirectory(prefix="avdata-child-") as folder:
        answer = Path(folder) / "answer"
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(answer)], stdin=subprocess.PIPE, env=environment
        )
        try:
            assert child.stdin is not None
            try:
                child.stdin.write(pickle.dumps((function, job)))
                child.stdin.flush()
            except BrokenPipeError:
                pass  # it died at once; how is told below
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            if child.stdin is not None:
                child.stdin.close()
        if code or not answer.exists():
            raise ProcessDiedError(f"the process that worked on it {_ending(code)}")
        result, error = pickle.loads(answer.read_bytes())
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _ending(code: int) -> str:
    """Say how a process ended, from its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = "; the system may have run out of memory" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"


def work_and_leave() -> None:
    """Be the child: read the work from standard input, write what came of it to a file."""
    answer = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal: the parent ends this
    function, job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    result: tuple[Any, BaseException | None]
    try:
        result = function(job), None
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        result = None, _picklable(error)
    answer.write_bytes(pickle.dumps(result))
    os._exit(0)  # threads of libraries that hang at the end are no matter


def _end_with_parent() -> None:
    """The parent keeps the pipe open as long as it waits."""
    sys.stdin.buffer.read()
    os._exit(1)


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # errors with arguments of their own often cannot be made again
        replacement = RuntimeError(repr(error))
        replacement.__notes__ = error.__notes__
        return replacement
    return error
