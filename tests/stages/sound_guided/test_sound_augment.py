"""Changed sounds: signal over noise, shift and level against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.sound_guided.sound_augment import SoundAugment, SoundAugmentSettings

NOTHING = {"shift": 0.0, "noise_chance": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tones(n: int = 6, samples: int = 4410) -> Tensor:
    t = torch.arange(samples) / 44_100
    return torch.stack([0.3 * torch.sin(2 * torch.pi * 220 * (k + 1) * t) for k in range(n)])


def changed(waves: Tensor, seed: int = 0, **settings: float) -> Tensor:
    return SoundAugment(SoundAugmentSettings(**{**NOTHING, **settings}))(waves, generator(seed))


def test_nothing_asked_nothing_changed() -> None:
    assert torch.equal(changed(tones()), tones())


def test_noise_at_the_ratio_that_was_asked_for() -> None:
    waves = tones(samples=44_100)
    noise = changed(waves, noise_chance=1.0, min_snr_db=12.0, max_snr_db=12.0) - waves
    power = (waves.double() ** 2).mean(1) / (noise.double() ** 2).mean(1)
    np.testing.assert_allclose(10 * np.log10(power), 12.0, atol=0.01)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.03  # each has its own


def test_some_sounds_get_noise_and_some_do_not() -> None:
    waves = tones(1, 50).expand(4000, -1)
    noisy = (changed(waves, noise_chance=0.3) != waves).any(1).float().mean().item()
    assert noisy == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 4000))


def test_a_shift_brings_in_what_it_pushes_out() -> None:
    ramp = torch.arange(1000).repeat(50, 1) / 1000
    moved = changed(ramp, shift=0.1)
    places = moved.argmin(1)  # of the first sample
    for row, place in zip(moved, places.tolist(), strict=True):
        np.testing.assert_array_equal(row, np.roll(ramp[0], place))
        assert min(place, 1000 - place) <= 100
    assert len(set(places.tolist())) > 20


def test_level_within_its_bounds() -> None:
    waves = tones(200) * 0.1
    ratio = changed(waves, gain_db=6.0).norm(dim=1) / waves.norm(dim=1)
    gain_db = 20 * torch.log10(ratio)
    assert gain_db.abs().max() <= 6.001
    assert gain_db.min() < -5
    assert gain_db.max() > 5
    assert changed(torch.ones(20, 8), gain_db=20.0).max() == 1  # clipped, never beyond


def test_silence_stays_silent_and_repeats_repeat() -> None:
    quiet = torch.zeros(3, 500)
    assert torch.equal(changed(quiet, noise_chance=1.0, shift=0.5, gain_db=9.0), quiet)
    augment = SoundAugment()
    first = augment(tones(), generator(5))
    torch.manual_seed(7)
    assert torch.equal(first, augment(tones(), generator(5)))
    assert not torch.equal(first, augment(tones(), generator(6)))


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="must not exceed max_snr_db"):
        SoundAugmentSettings(min_snr_db=50.0)
    for wrong in ({"shift": -0.1}, {"noise_chance": 2.0}, {"gain_db": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SoundAugmentSettings(**wrong)
