"""What a person sees of a training: a live bar on a terminal, lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 5.0


class Display:
    """Steps done, samples per second, share of the time spent waiting for data, time left."""

    def __init__(self, console: Console, title: str, step: int, total: int, samples: int) -> None:
        """samples: of one step."""
        self.console, self.title, self.total, self.samples = console, title, total, samples
        self._first, self._started = step, time.perf_counter()
        self._shown = self._started
        self._mark = (step, self._started, 0.0)
        self._values = ""
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[facts]}"),
                console=console,
            )
            self._task = self._bar.add_task(title, total=total, completed=step, facts="")
            self._bar.start()

    def speed(self, step: int, waited_s: float) -> dict[str, float]:
        """Return samples_per_s and data_wait_share since the last call."""
        before, since, waited = self._mark
        now = time.perf_counter()
        self._mark = (step, now, waited_s)
        elapsed = max(now - since, 1e-9)
        return {
            "samples_per_s": (step - before) * self.samples / elapsed,
            "data_wait_share": (waited_s - waited) / elapsed,
        }

    def show(self, step: int, values: Mapping[str, float] | None = None) -> None:
        """Show that `step` is done; `values` are shown until others come."""
        if values:
            self._values = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        now = time.perf_counter()
        step_s = (now - self._started) / max(1, step - self._first)
        facts = f"{duration(step_s * (self.total - step))} left  {self._values}".rstrip()
        if self._bar is not None:
            self._bar.update(self._task, completed=step, facts=facts)
        elif now - self._shown >= LINE_EVERY_S or step == self.total:
            self._shown = now
            self.note(f"{self.title} {step}/{self.total}  {facts}")

    def note(self, text: str) -> None:
        """Say something worth a line of its own."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def duration(seconds: float) -> str:
    """Return seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
