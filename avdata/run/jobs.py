"""What an executor is: jobs in, outcomes out, wherever the work is done."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from avdata.errors import AvdataError

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Crash:
    """A job that failed by a bug or by the loss of its process."""

    job: Any
    error: str
    traceback: str
    died: bool = False  # the process that ran it was killed; False: an exception came out


@dataclass(frozen=True, slots=True)
class Staged(Generic[J, R]):
    """Work in two stages: `ahead` mostly waits (for servers), `then` computes.

    To call it does both. An executor may run `ahead` for jobs whose turn to compute has not come.
    """

    ahead: Callable[[J], J]
    then: Callable[[J], R]
    at_once: int  # jobs that may be in the first stage at the same time

    def __call__(self, job: J) -> R:
        return self.then(self.ahead(job))


class Executor(Protocol):
    """Runs jobs somewhere; outcomes come in any order."""

    threads_per_job: int  # 0: a job may use every core

    def map(
        self, function: Callable[[J], R], jobs: Iterable[J]
    ) -> Generator[R | Crash, None, None]:
        """Yield `function(job)` or a `Crash` for every job; closed early, it stops the work."""
        ...


def attempt(function: Callable[[J], R], job: J) -> R | Crash | AvdataError:
    """Return what the function returns, or what it raised: an AvdataError, or a Crash."""
    try:
        return function(job)
    except AvdataError as error:
        return error
    except Exception as error:
        return Crash(job, repr(error), traceback.format_exc())
