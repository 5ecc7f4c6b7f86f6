"""What is seen of a search that takes minutes: a bar on a terminal, lines now and then in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from stages.engine.display import Display

SHORT = 100  # steps that are over before anybody looks


@contextmanager
def steps_shown(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give what is called after each step, and counts them; short searches show nothing."""
    if total < SHORT:
        yield lambda _: None
        return
    display = Display(Console(stderr=True), title, 0, total, 1)
    done = 0

    def progress(_: int) -> None:
        nonlocal done
        done += 1
        display.show(done)

    try:
        yield progress
    finally:
        display.close()
