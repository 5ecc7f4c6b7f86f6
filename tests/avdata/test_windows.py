"""Window planning: which spans, which frame times, and what does not fit."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avdata.clip import Clip
from avdata.config import TrimSettings
from avdata.errors import ClipError, Reason, SettingsError
from avdata.steps.windows import Window, fit_window, frame_times_s, plan_windows, spread
from avdata.strict import build


def row(**columns: Any) -> Clip:
    return Clip(key="k", url="u", source_id="s", **columns)


def spans(clip: Clip, duration_ms: int, **settings: Any) -> list[tuple[int, int]]:
    windows = plan_windows(clip, duration_ms, TrimSettings(**settings))
    return [(w.start_ms, w.end_ms) for w in windows]


def test_listed_takes_the_rows_own_span_and_the_rest_of_the_source_without_an_end() -> None:
    assert spans(row(start_ms=1234, end_ms=5678), 9000) == [(1234, 5678)]
    assert spans(row(start_ms=1234), 90_000) == [(1234, 90_000)]
    assert spans(row(), 90_000, window_s=2.5) == [(0, 90_000)]
    (late,) = plan_windows(row(start_ms=90_000), 5000, TrimSettings())
    with pytest.raises(ClipError) as caught:
        fit_window(late, 5000, TrimSettings())
    assert caught.value.reason is Reason.WINDOW_PAST_END


def test_windows_fill_the_span_without_overlap_and_leave_out_the_rest() -> None:
    assert spans(row(), 10_000, mode="windows", window_s=3) == [
        (0, 3000),
        (3000, 6000),
        (6000, 9000),
    ]
    assert spans(row(start_ms=500, end_ms=7000), 10_000, mode="windows", window_s=3) == [
        (500, 3500),
        (3500, 6500),
    ]
    assert spans(row(), 7000, mode="windows", window_s=3, hop_s=2) == [
        (0, 3000),
        (2000, 5000),
        (4000, 7000),
    ]


def test_a_window_that_misses_little_at_the_end_still_counts() -> None:
    assert spans(row(), 8800, mode="windows", window_s=3)[-1] == (6000, 9000)
    assert spans(row(), 8700, mode="windows", window_s=3)[-1] == (3000, 6000)


def test_keep_gives_the_rest_too_but_no_crumbs() -> None:
    keep: dict[str, Any] = {"mode": "windows", "window_s": 3, "short_clips": "keep"}
    assert spans(row(), 7000, **keep)[-1] == (6000, 7000)
    assert spans(row(), 6100, **keep)[-1] == (3000, 6000)
    assert spans(row(), 1000, **keep) == [(0, 1000)]


def test_no_window_fits() -> None:
    with pytest.raises(ClipError, match=r"3 s fits into the 1\.0 s") as caught:
        spans(row(), 1000, mode="windows", window_s=3)
    assert caught.value.reason is Reason.TOO_SHORT


def test_an_absurd_duration_does_not_give_a_million_windows() -> None:
    with pytest.raises(ClipError) as caught:
        spans(row(), 2**45, mode="windows", window_s=3)
    assert caught.value.reason is Reason.CORRUPT


def test_events_give_one_window_each_in_order_and_once() -> None:
    clip = row(events_ms=(5000, 1000, 5000))
    assert spans(clip, 9000, mode="events", window_s=2, event_offset_s=-0.5) == [
        (500, 2500),
        (4500, 6500),
    ]
    with pytest.raises(ClipError, match="no events_ms") as caught:
        spans(row(), 9000, mode="events")
    assert caught.value.reason is Reason.BAD_ROW


def test_max_windows_are_spread_over_the_source() -> None:
    settings: dict[str, Any] = {"mode": "windows", "window_s": 1, "max_windows": 3}
    assert [start for start, _ in spans(row(), 9000, **settings)] == [1000, 4000, 7000]


@given(n=st.integers(1, 200), limit=st.integers(1, 50))
def test_spread_keeps_order_and_distance(n: int, limit: int) -> None:
    windows = [Window(i, i + 1) for i in range(n)]
    starts = [w.start_ms for w in spread(windows, limit)]
    assert len(starts) == min(n, limit)
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(step >= 1 for step in steps)
    assert not steps or max(steps) - min(steps) <= 1


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (Window(1000, 1000), Reason.EMPTY),
        (Window(2000, 1000), Reason.EMPTY),
        (Window(5000, 6000), Reason.WINDOW_PAST_END),
        (Window(-3000, -1000), Reason.WINDOW_PAST_END),
        (Window(4000, 5300), Reason.TOO_SHORT),
        (Window(-100, 1000), Reason.TOO_SHORT),
    ],
)
def test_windows_that_the_source_does_not_have(window: Window, reason: Reason) -> None:
    with pytest.raises(ClipError) as caught:
        fit_window(window, 5000, TrimSettings())
    assert caught.value.reason is reason


def test_keep_cuts_a_window_down_to_the_source() -> None:
    keep = TrimSettings(short_clips="keep")
    assert fit_window(Window(4000, 9000), 5000, keep) == Window(4000, 5000)
    assert fit_window(Window(-500, 1000), 5000, keep) == Window(0, 1000)
    assert fit_window(Window(4000, 5200), 5000, keep) == Window(4000, 5200)  # within tolerance
    with pytest.raises(ClipError):
        fit_window(Window(5000, 6000), 5000, keep)


def test_frames_per_clip_lie_at_the_centres_of_equal_parts() -> None:
    times = frame_times_s(Window(1000, 4000), TrimSettings(frames_per_clip=4))
    assert times == [Fraction(3, 8), Fraction(9, 8), Fraction(15, 8), Fraction(21, 8)]


def test_a_frame_rate_counts_from_the_clips_start() -> None:
    settings = TrimSettings(frame_rate_hz=5)
    assert frame_times_s(Window(0, 1000), settings) == [Fraction(k, 5) for k in range(5)]
    assert len(frame_times_s(Window(0, 1001), settings)) == 6
    assert len(frame_times_s(Window(0, 10_000), TrimSettings(frame_rate_hz=29.97))) == 300


def test_n_samples_is_rounded_to_the_nearest() -> None:
    assert Window(0, 3000).n_samples(16000) == 48000
    assert Window(0, 333).n_samples(44100) == 14685  # 14685.3


@pytest.mark.parametrize(
    ("name", "value"),
    [("window_s", 0), ("hop_s", -1.0), ("jpeg_quality", 101), ("width_px", 0), ("threads", -1)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=name):
        build(TrimSettings, {name: value}, "trim")
