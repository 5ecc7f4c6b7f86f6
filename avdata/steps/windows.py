"""Which windows are cut from a source, and at which times frames are taken: arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from avdata.clip import Clip
from avdata.config import TrimSettings
from avdata.errors import ClipError, Reason

MAX_WINDOWS_PER_ROW = 100_000  # 83 hours in 3-s windows; more means a damaged duration


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span [start_ms, end_ms) of a source's own time."""

    start_ms: int
    end_ms: int

    @property
    def length_s(self) -> Fraction:
        return Fraction(self.end_ms - self.start_ms, 1000)

    def n_samples(self, sample_rate_hz: int) -> int:
        """Return how many samples a sound of this length has, rounded to the nearest."""
        return round(self.length_s * sample_rate_hz)


def plan_windows(clip: Clip, duration_ms: int, settings: TrimSettings) -> list[Window]:
    """Return the windows that the settings ask of a row, before they are held to the source.

    listed gives one, up to the end of the source where the row names none; windows gives all that
    fit whole between start_ms and end_ms (with `short_clips: keep` also the rest at the end);
    events gives one per distinct event. The same window is never given twice. Raises ClipError
    (too_short) when there is not a single one.
    """
    if settings.mode == "listed":
        return [Window(clip.start_ms or 0, duration_ms if clip.end_ms is None else clip.end_ms)]
    if settings.mode == "events":
        offset_ms, length_ms = _ms(settings.event_offset_s), _ms(settings.window_s)
        starts_ms = [event_ms + offset_ms for event_ms in sorted(set(clip.events_ms))]
        windows = [Window(start_ms, start_ms + length_ms) for start_ms in starts_ms]
        if not windows:
            raise ClipError(Reason.BAD_ROW, "mode is events, but the row lists no events_ms")
    else:
        windows = _consecutive(clip, duration_ms, settings)
    return spread(windows, settings.max_windows)


def _consecutive(clip: Clip, duration_ms: int, settings: TrimSettings) -> list[Window]:
    length_ms, tolerance_ms = _ms(settings.window_s), _ms(settings.short_tolerance_s)
    hop_ms = _ms(settings.window_s if settings.hop_s is None else settings.hop_s)
    start_ms = max(0, clip.start_ms or 0)
    end_ms = duration_ms if clip.end_ms is None else min(clip.end_ms, duration_ms)
    room_ms = end_ms - start_ms
    count = max(0, (room_ms + tolerance_ms - length_ms) // hop_ms + 1)
    if count > MAX_WINDOWS_PER_ROW:
        raise ClipError(
            Reason.CORRUPT,
            f"{count} windows in a source that claims to last {duration_ms / 3.6e6:.1f} h; "
            f"at most {MAX_WINDOWS_PER_ROW} per row",
        )
    windows = [Window(t, t + length_ms) for t in range(start_ms, start_ms + count * hop_ms, hop_ms)]
    rest_ms = start_ms + count * hop_ms
    if settings.short_clips == "keep" and end_ms - rest_ms > tolerance_ms:
        windows.append(Window(rest_ms, end_ms))
    if not windows:
        raise ClipError(
            Reason.TOO_SHORT,
            f"not one window of {settings.window_s} s fits into the {max(0, room_ms) / 1000} s "
            f"from {start_ms / 1000} s to {end_ms / 1000} s",
        )
    return windows


def spread(windows: Sequence[Window], max_windows: int | None) -> list[Window]:
    """Return at most `max_windows` of the windows: the middle ones of as many equal groups."""
    if max_windows is None or len(windows) <= max_windows:
        return list(windows)
    return [windows[(2 * i + 1) * len(windows) // (2 * max_windows)] for i in range(max_windows)]


def fit_window(window: Window, duration_ms: int, settings: TrimSettings) -> Window:
    """Return the window as it can be cut from a source of this duration.

    A window may pass the end by `short_tolerance_s` and stays whole (its sound ends in zeros).
    With `short_clips: keep` a longer one is cut down to what the source has, at either end.
    Raises ClipError: empty (no length), window_past_end (nothing of it in the source), too_short.
    """
    start_ms, end_ms = window.start_ms, window.end_ms
    if start_ms >= duration_ms or end_ms <= 0:
        raise ClipError(
            Reason.WINDOW_PAST_END,
            f"the window {start_ms} to {end_ms} ms lies outside the source's {duration_ms} ms",
        )
    if end_ms <= start_ms:
        raise ClipError(Reason.EMPTY, f"the window has no length: {start_ms} ms to {end_ms} ms")
    past_end = end_ms > duration_ms + _ms(settings.short_tolerance_s)
    if start_ms >= 0 and not past_end:
        return window
    if settings.short_clips == "fail":
        raise ClipError(
            Reason.TOO_SHORT,
            f"the source lasts {duration_ms} ms, the window is {start_ms} to {end_ms} ms",
        )
    return Window(max(0, start_ms), duration_ms if past_end else end_ms)


def frame_times_s(window: Window, settings: TrimSettings) -> list[Fraction]:
    """Return when frames are taken, in seconds after the window's start, exactly.

    n per clip: at the centres of n equal parts, (i + 1/2) L / n. At a rate r: at k / r < L.
    """
    if settings.frame_rate_hz is not None:
        rate_hz = Fraction(settings.frame_rate_hz).limit_denominator(1001)
        return [k / rate_hz for k in range(-int(-window.length_s * rate_hz // 1))]
    n = settings.frames_per_clip or 0
    return [Fraction(2 * i + 1, 2 * n) * window.length_s for i in range(n)]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
