"""Work done ahead by threads, handed out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Job = TypeVar("Job")


def ahead(
    jobs: Iterable[Job], work: Callable[[Job], T], workers: int, prefetch: int = 2
) -> Iterator[T]:
    """Yield the result of each job in order, while threads work on the next ones.

    At most `workers + prefetch` results wait; with 0 workers each is made when it is asked for.
    """
    if workers == 0:
        yield from map(work, jobs)
        return
    # Threads, not processes: decoding releases the GIL, and nothing has to be copied over.
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="avdata-loader") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) >= workers + prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
