"""Sounds of the mini-hike, made from filtered noise, grains, chirps and rumble.

Every function takes a generator and returns float32 mono at `RATE_HZ`; levels are linear, about
0.05 to 0.3 RMS while the source sounds. Grain and bubble models follow Farnell, "Designing Sound"
(2010); the rising pitch of a bubble is van den Doel, "Physically based models for liquid sounds"
(2005).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 44100

Sound = NDArray[np.float32]
Gain = Callable[[NDArray[np.floating]], NDArray[np.float64]]


def band(low_hz: float, high_hz: float, slope: float = 0.0) -> Gain:
    """Return a band-pass gain with soft edges, falling as frequency ** -slope inside."""

    def gain(freq_hz: NDArray[np.floating]) -> NDArray[np.float64]:
        f = np.maximum(freq_hz, 1.0)
        edges = 1 / np.sqrt(1 + (low_hz / f) ** 6) / np.sqrt(1 + (f / high_hz) ** 6)
        return np.asarray(edges * (f / 1000.0) ** -slope)

    return gain


def noise(rng: np.random.Generator, n: int, gain: Gain) -> Sound:
    """Return `n` samples of Gaussian noise of unit RMS with the given spectrum."""
    size = 1 << max(n - 1, 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
    spectrum *= gain(np.fft.rfftfreq(size, 1 / RATE_HZ))
    x = np.fft.irfft(spectrum, size)[:n].astype(np.float32)
    return np.asarray(x / (np.sqrt(np.mean(x * x)) + 1e-9), np.float32)


def swell(rng: np.random.Generator, n: int, rate_hz: float, depth: float) -> Sound:
    """Return a slow random envelope in [1 - depth, 1], changing at about `rate_hz`."""
    knots = rng.random(int(n / RATE_HZ * rate_hz) + 4)
    at = np.arange(n) / RATE_HZ * rate_hz
    low = at.astype(int)
    part = (1 - np.cos(np.pi * (at - low))) / 2
    return np.asarray(1 - depth * (knots[low] * (1 - part) + knots[low + 1] * part), np.float32)


def add_at(target: Sound, start_s: float, grain: Sound) -> None:
    """Mix `grain` into `target` at a time; what lies outside is cut."""
    start = round(start_s * RATE_HZ)
    if start < 0:
        grain, start = grain[-start:], 0
    end = min(start + len(grain), len(target))
    if end > start:
        target[start:end] += grain[: end - start]


def scattered(
    rng: np.random.Generator, n: int, per_s: float, grains: Sequence[Sound], spread: float = 1.0
) -> Sound:
    """Mix grains at random times with log-normal levels (sigma `spread`)."""
    out = np.zeros(n, np.float32)
    count = rng.poisson(per_s * n / RATE_HZ)
    which = rng.integers(len(grains), size=count)
    for index, grain in enumerate(grains):
        impulses = np.zeros(n, np.float32)
        mine = int((which == index).sum())
        level = np.exp(rng.normal(0, spread, mine)).astype(np.float32)
        np.add.at(impulses, rng.integers(0, n, mine), level)
        out += _convolve(impulses, grain)
    return out


def _convolve(x: Sound, kernel: Sound) -> Sound:
    size = 1 << (len(x) + len(kernel) - 2).bit_length()
    y = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(kernel, size), size)
    return np.asarray(y[: len(x)], np.float32)


def ping(freq_hz: float, decay_s: float, rise: float = 0.0) -> Sound:
    """Return a decaying sine; its pitch rises by the factor 1 + `rise` over one decay time."""
    t = np.arange(round(6 * decay_s * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * freq_hz * (t + rise * t * t / (2 * decay_s))
    attack = np.minimum(1, t / 0.001)
    return np.asarray(np.sin(phase) * np.exp(-t / decay_s) * attack, np.float32)


def burst(rng: np.random.Generator, length_s: float, gain: Gain, attack: float = 0.1) -> Sound:
    """Return a noise burst with a fast rise (share `attack` of the length) and a smooth fall."""
    n = round(length_s * RATE_HZ)
    at = np.arange(n) / n
    envelope = np.where(at < attack, at / attack, ((1 - at) / (1 - attack)) ** 2)
    return np.asarray(noise(rng, n, gain) * envelope, np.float32)


def decay(length_s: float, attack_s: float, decay_s: float) -> Sound:
    """Return an envelope that rises linearly to 1 and falls exponentially."""
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    fall = np.exp(-np.maximum(t - attack_s, 0) / decay_s)
    return np.asarray(np.minimum(1, t / attack_s) * fall, np.float32)


def _footfall(rng: np.random.Generator, snow: bool) -> Sound:
    """Return one step: the heel's knock and thud, then the ground giving way grain by grain."""
    length_s = 0.45
    n = round(length_s * RATE_HZ)
    heel = noise(rng, n, band(340, 800, 0.2)) * decay(length_s, 0.009, rng.uniform(0.007, 0.011))
    thud = burst(rng, 0.12, band(75, 225))
    low_hz, high_hz, decay_s = (620, 6000, 0.1) if snow else (800, 9500, 0.08)
    give = noise(rng, n, band(low_hz, high_hz, 1.1)) * decay(length_s, 0.002, decay_s)
    share, per_s = (0.4, 700) if snow else (0.55, 260)
    crackle = scattered(rng, n, per_s, [decay(0.02, 0.0005, 0.001)], 0.7)
    give = give * (1 - share + share * crackle / (crackle.mean() + 1e-9))
    out = np.float32(0.2) * heel
    add_at(out, 0.0, np.float32(0.087) * thud)
    add_at(out, rng.uniform(0.06, 0.09), np.asarray((0.075 if snow else 0.06) * give, np.float32))
    return out


def steps(rng: np.random.Generator, n: int, times_s: Sequence[float], snow: bool) -> Sound:
    """Return footsteps at the given times, on snow or on gravel."""
    out = np.zeros(n, np.float32)
    for time_s in times_s:
        add_at(out, time_s, np.float32(rng.uniform(0.6, 0.8)) * _footfall(rng, snow))
    return out


def rain(rng: np.random.Generator, n: int, heavy: bool) -> Sound:
    """Return rain: separate drops over a soft hiss, or a dense downpour."""
    shapes = np.geomspace(900, 6000, 10)
    drops = [burst(rng, rng.uniform(0.002, 0.006), band(f, 2.2 * f), 0.03) for f in shapes]
    if heavy:
        hiss = noise(rng, n, band(700, 10000, 1.0)) * swell(rng, n, 0.6, 0.3)
        return 0.12 * hiss + 0.05 * scattered(rng, n, 400, drops, 0.5)
    hiss = noise(rng, n, band(300, 10000, 0.5)) * swell(rng, n, 0.4, 0.2)
    return 0.04 * hiss + 0.06 * scattered(rng, n, 80, drops, 0.5)


def stream(rng: np.random.Generator, n: int) -> Sound:
    """Return running water: bubbles of rising pitch over a soft rush."""
    pitches = np.geomspace(800, 5000, 40)
    bubbles = [ping(f, rng.uniform(0.004, 0.015), rng.uniform(0.1, 0.5)) for f in pitches]
    rush = noise(rng, n, band(250, 5000, 0.6)) * swell(rng, n, 4, 0.4)
    return 0.06 * rush + 0.025 * scattered(rng, n, 1300, bubbles, 0.6)


def ocean(rng: np.random.Generator, n: int, crests_s: Sequence[float]) -> Sound:
    """Return surf: each crest swells, breaks brightly, and washes out."""
    t = np.arange(n) / RATE_HZ
    low, high = np.full(n, 0.25), np.full(n, 0.08)
    for crest_s in crests_s:
        d = t - crest_s
        low += np.where(d < 0, np.exp(d / 0.9), np.exp(-d / 1.4))
        high += np.where(d < 0, np.exp(d / 0.4), np.exp(-d / 1.0))
    deep = noise(rng, n, band(70, 900, 0.6)) * low.astype(np.float32)
    foam = noise(rng, n, band(700, 7000, 0.7)) * high.astype(np.float32)
    return np.asarray(0.09 * deep + 0.09 * foam, np.float32)


def _chirp(rng: np.random.Generator, voice_hz: float, shape: int) -> Sound:
    """Return one chirp: a swept whistle of 60 to 130 ms with a little trill."""
    length_s = rng.uniform(0.06, 0.13)
    n = round(length_s * RATE_HZ)
    at = np.arange(n) / n
    sweep = (at - 0.5, 0.5 - at, 0.5 - 2 * (at - 0.5) ** 2)[shape]
    freq_hz = voice_hz * (1 + rng.uniform(0.25, 0.5) * sweep)
    freq_hz *= 1 + 0.03 * np.sin(2 * np.pi * rng.uniform(20, 45) * at * length_s)
    phase = 2 * np.pi * np.cumsum(freq_hz) / RATE_HZ
    tone = np.sin(phase) + 0.15 * np.sin(2 * phase)
    return np.asarray(tone * np.sin(np.pi * at) ** 0.7, np.float32)


def birds(rng: np.random.Generator, n: int, chirps: Sequence[tuple[float, int]]) -> Sound:
    """Return chirps at (time in s, bird 0 to 2): each bird has its own pitch and sweep."""
    out = np.zeros(n, np.float32)
    voices_hz = rng.permutation(np.array([2900, 3800, 4800]) * rng.uniform(0.9, 1.1, 3))
    shapes = rng.integers(3, size=3)
    for time_s, bird in chirps:
        level = np.float32(rng.uniform(0.15, 0.3))
        add_at(out, time_s, level * _chirp(rng, voices_hz[bird], shapes[bird]))
    return out


def storm(rng: np.random.Generator, n: int, claps_s: Sequence[float]) -> Sound:
    """Return gusty wind in grass and, at the given times, a crack and a long rolling rumble."""
    gusts = swell(rng, n, 1.1, 0.65) ** 1.3
    wind = noise(rng, n, band(80, 510, 1.4)) * gusts
    grass = noise(rng, n, band(800, 6000, 0.6)) * gusts
    out = np.asarray(0.15 * wind + 0.014 * grass, np.float32)
    length_s = 4.5
    length = round(length_s * RATE_HZ)
    for clap_s in claps_s:
        low_hz = rng.uniform(80, 110)
        rumble = noise(rng, length, band(low_hz, 6.5 * low_hz, 0.8)) * swell(rng, length, 5.3, 0.6)
        crack = noise(rng, length, band(125, 1400, 0.7)) * swell(rng, length, 9, 0.7)
        add_at(out, clap_s, np.float32(0.3) * rumble * decay(length_s, 0.12, 0.8))
        add_at(out, clap_s, np.float32(0.16) * crack * decay(length_s, 0.012, 0.7))
    return out
