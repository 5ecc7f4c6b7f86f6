"""Lines of metrics, on disk and on the screen."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stages.engine.display import Display, duration
from stages.engine.metrics_log import MetricsLog, read_metrics


def test_a_resumed_log_is_one_curve(tmp_path: Path) -> None:
    """Steps 1 to 5 and half a line, then a resume after step 3."""
    log = MetricsLog(tmp_path, 0)
    for step in range(1, 6):
        log.write(step, {"loss": step / 2})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    log = MetricsLog(tmp_path, 3)
    log.write(4, {"loss": 9.0})
    log.close()
    lines = [(line["step"], line["loss"]) for line in read_metrics(tmp_path)]
    assert lines == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 9.0)]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == lines


def test_lines_where_there_is_no_terminal() -> None:
    screen = io.StringIO()
    display = Display(Console(file=screen, width=120), "train_x", 2, 4, samples=8)
    display.show(3, {"loss": 0.51234})
    display.show(4)
    display.close()
    assert screen.getvalue() == "train_x 4/4  0:00 left  loss 0.5123\n"


def test_bar_on_a_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    display = Display(console, "train_x", 0, 4, samples=8)
    display.show(4, {"loss": 0.5})
    display.close()
    assert "4/4" in screen.getvalue()
    assert "loss 0.5" in screen.getvalue()


def test_speed_counts_since_the_last_call() -> None:
    display = Display(Console(file=io.StringIO()), "train_x", 10, 20, samples=8)
    display._mark = (10, display._started - 4.0, 1.0)
    speed = display.speed(12, waited_s=2.0)
    assert abs(speed["samples_per_s"] - 2 * 8 / 4) < 0.5
    assert abs(speed["data_wait_share"] - 1 / 4) < 0.05


def test_duration() -> None:
    assert [duration(s) for s in (9.6, 125, 3723)] == ["0:10", "2:05", "1:02:03"]
