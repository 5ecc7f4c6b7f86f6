"""From the course of a video to its sound."""

from __future__ import annotations

import numpy as np

from avdata.demo import sounds
from avdata.demo.sounds import RATE_HZ, Sound
from avdata.demo.timeline import Interval, Timeline

FADE_S = 0.15
AMBIENCE = 0.0004  # RMS of the outdoors when nothing sounds: about -68 dB


def soundtrack(timeline: Timeline) -> Sound:
    """Return the video's sound, float32 mono in [-0.98, 0.98] at `RATE_HZ`.

    Outside `timeline.sounding` only the ambience remains.
    """
    rng = timeline.rng("sound")
    n = round(timeline.duration_s * RATE_HZ)
    x = _source(timeline, rng, n) * _gate(n, timeline.sounding)
    x += np.float32(AMBIENCE) * sounds.noise(rng, n, sounds.band(90, 8000, 0.2))
    peak = float(np.abs(x).max())
    return x if peak <= 0.98 else x * np.float32(0.98 / peak)


def _source(timeline: Timeline, rng: np.random.Generator, n: int) -> Sound:
    times_s = [event.t_s for event in timeline.events]
    match timeline.kind:
        case "snow_steps" | "gravel_steps":
            return sounds.steps(rng, n, times_s, snow=timeline.kind == "snow_steps")
        case "light_rain" | "heavy_rain":
            return sounds.rain(rng, n, heavy=timeline.kind == "heavy_rain")
        case "birds":
            return sounds.birds(rng, n, [(event.t_s, event.who) for event in timeline.events])
        case "ocean":
            return sounds.ocean(rng, n, times_s)
        case "stream":
            return sounds.stream(rng, n)
        case "thunderstorm":
            return sounds.storm(rng, n, times_s)
    raise KeyError(timeline.kind)


def _gate(n: int, sounding: tuple[Interval, ...]) -> Sound:
    """Return 1 inside the intervals, 0 outside, with short fades inside their edges."""
    t = np.arange(n, dtype=np.float32) / np.float32(RATE_HZ)
    gate = np.zeros(n, np.float32)
    for start_s, end_s in sounding:
        edges = np.minimum(t - np.float32(start_s), np.float32(end_s) - t) / np.float32(FADE_S)
        gate = np.maximum(gate, np.clip(edges, 0, 1))
    return gate
