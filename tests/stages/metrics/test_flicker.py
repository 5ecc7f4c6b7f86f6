"""Flicker against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from stages.metrics.flicker import Flicker, flicker

rng = np.random.default_rng(0)
FILM = rng.integers(0, 256, (7, 12, 9, 3), dtype=np.uint8)
STILL = np.repeat(FILM[:1] // 2 + 60, 6, axis=0)


def test_a_film_left_alone_or_made_paler_has_none() -> None:
    assert flicker(FILM, FILM) == 0
    assert flicker(FILM, FILM // 51) == pytest.approx(0, abs=1e-3)
    assert flicker(FILM, 255 - FILM) == pytest.approx(0, abs=1e-7)  # other colours, same motion


def test_jumps_over_a_still_film_count_whole() -> None:
    jumping = STILL.copy()
    jumping[::2] += 10
    jumping[1::2] -= 10
    assert flicker(STILL, jumping) == pytest.approx(20 / 255)


def test_what_flashes_in_the_film_itself_is_free() -> None:
    flashing, brighter = STILL.copy(), STILL.copy()
    flashing[3] += 40
    brighter[3] += 55  # of two of the five steps, 15 too many
    assert flicker(flashing, brighter) == pytest.approx(2 / 5 * 15 / 255)


def test_contrast_c_has_c_minus_1_times_the_motion() -> None:
    dim = (FILM // 3).astype(np.uint8)
    counted = Flicker()
    for x, y in zip(dim, 3 * dim, strict=True):
        counted.add(x, y)
    motion = np.abs(np.diff(dim.astype(float), axis=0)).mean() / 255
    assert counted.before == pytest.approx(motion, rel=1e-5)
    assert counted.after == pytest.approx(3 * motion, rel=1e-5)
    assert counted.value == pytest.approx(2 * motion, rel=1e-5)


def test_short_films_and_sizes() -> None:
    assert flicker(FILM[:1], STILL[:1]) == flicker(FILM[:0], STILL[:0]) == 0
    with pytest.raises(ValueError, match="differ in size"):
        flicker(FILM, FILM[:, :5])
