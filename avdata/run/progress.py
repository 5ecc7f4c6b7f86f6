"""What a person sees while long work goes on: a live bar on a terminal, lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 5.0


class Progress:
    """Notes and bars on a rich console; a line every few seconds where it is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def note(self, text: str) -> None:
        """Say what begins now."""
        if self.console.is_terminal:
            self.console.log(text, highlight=False)

    def say(self, text: str) -> None:
        """Say what a person needs to know, on a terminal and in a log."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        """Show a bar over `total` items; call what it gives after each one, with the counts."""
        show = self._live if self.console.is_terminal else self._lines
        with show(title, total) as advance:
            yield advance

    @contextmanager
    def counter(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """Show how far something is that counts by itself: call with done, total and a name."""
        bar = None
        shown = 0

        def show(done: int, total: int, name: str) -> None:
            nonlocal bar, shown
            bar = bar or stack.enter_context(self.bar(title, total))
            while shown < done:
                shown += 1
                bar(name)

        with ExitStack() as stack:
            yield show

    @contextmanager
    def _live(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        with Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[counts]}"),
            console=self.console,
        ) as bars:
            task = bars.add_task(title, total=total, counts="")
            yield lambda counts: bars.update(task, advance=1, counts=counts)

    @contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        started = last = time.monotonic()
        done = 0

        def advance(counts: str) -> None:
            nonlocal last, done
            done += 1
            now = time.monotonic()
            if now - last >= LINE_EVERY_S or done == total:
                last = now
                tail = f": {counts}" if counts else ""
                self.console.print(
                    f"{title} {done}/{total} after {now - started:.0f} s{tail}",
                    highlight=False,
                    soft_wrap=True,
                )

        yield advance
