"""SpecAugment's bounds, torchaudio's masks for the same draws, and warping in closed form."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.engine import torchaudio_guard
from stages.sound_guided.spec_augment import (
    SpecAugment,
    SpecAugmentSettings,
    draw_mask,
    draw_warp,
    warp_time,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stretches(row: Tensor) -> list[int]:
    """Return the lengths of all runs of True in bool [size]."""
    edges = np.flatnonzero(np.diff(np.r_[0, row.int().numpy(), 0]))
    return [int(end - start) for start, end in pairwise(edges)][::2]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 70),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**40),
    st.integers(0, 3),
    st.floats(0, 0.4),
)
def test_what_is_hidden_stays_within_its_bounds(
    bands: int, frames: int, band_share: float, time_share: float, seed: int, n: int, warp: float
) -> None:
    augment = SpecAugment(
        SpecAugmentSettings(
            frequency_masks=n,
            frequency_share=band_share,
            time_masks=n,
            time_share=time_share,
            time_warp=warp,
        )
    )
    seen = augment(torch.ones(3, 1, bands, frames), generator(seed))
    assert seen.shape == (3, 1, bands, frames)
    hidden = seen[:, 0] == 0
    torch.testing.assert_close(seen[:, 0][~hidden], torch.ones(()).expand(int((~hidden).sum())))
    for one in hidden:
        rows, columns = one.all(1), one.all(0)
        assert torch.equal(one, rows[:, None] | columns[None, :])  # whole bands and moments
        if not rows.all() and not columns.all():
            assert rows.sum() <= n * int(band_share * bands)
            assert columns.sum() <= n * int(time_share * frames)


@given(st.integers(1, 300), st.floats(0, 1), st.integers(0, 2**40))
def test_one_mask_is_one_stretch_below_its_bound(size: int, share: float, seed: int) -> None:
    for row in draw_mask(8, size, share, generator(seed)):
        lengths = stretches(row)
        assert len(lengths) <= 1
        assert sum(lengths) <= share * size


@pytest.mark.parametrize(("bands", "frames"), [(128, 864), (128, 862), (13, 7)])
def test_equal_draws_give_torchaudios_masks(
    bands: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torchaudio_guard.install()
    from torchaudio.transforms import FrequencyMasking, TimeMasking

    x = torch.rand(6, 1, bands, frames, generator=generator(1))
    ours = SpecAugment()(x, generator(2))

    drawn, rand = generator(2), torch.rand

    def same_draws(shape: Any, **_: Any) -> Tensor:
        return rand(6, generator=drawn).view(shape)  # one of the two in turn

    monkeypatch.setattr(torch, "rand", same_draws)
    theirs = x
    for _ in range(2):
        theirs = TimeMasking(int(0.3 * frames), iid_masks=True)(theirs)
    for _ in range(2):
        theirs = FrequencyMasking(int(0.15 * bands), iid_masks=True)(theirs)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, x)


def test_the_masks_are_as_often_as_they_should_be_everywhere() -> None:
    """E[length] = (M - 1) / 2 of floor(u M), u uniform: the share of places that are hidden."""
    rows = draw_mask(20_000, 100, 0.3, generator())
    assert rows.float().mean().item() == pytest.approx((30 - 1) / 2 / 100, rel=0.02)
    assert rows[:, 30:70].float().mean(0).std() < 0.01  # no place in the middle is favoured


def test_the_generator_alone_decides() -> None:
    x = torch.rand(4, 1, 16, 32, generator=generator())
    kept, augment = x.clone(), SpecAugment(SpecAugmentSettings(time_warp=0.1))
    first = augment(x, generator(3))
    torch.manual_seed(99)
    assert torch.equal(first, augment(x, generator(3)))
    assert not torch.equal(first, augment(x, generator(4)))
    assert torch.equal(x, kept)
    assert not torch.equal(first[0] == 0, first[1] == 0)  # each has its own


def test_warping_moves_a_moment_and_keeps_both_ends() -> None:
    frames = 101
    ramp = torch.linspace(0, 1, frames).expand(2, 1, 5, frames)  # its value is its time
    warped = warp_time(ramp, torch.tensor([0.4, 0.5]), torch.tensor([0.1, -0.2]))
    t = np.linspace(0, 1, frames)
    first = np.interp(t, [0, 0.5, 1], [0, 0.4, 1])
    other = np.interp(t, [0, 0.3, 1], [0, 0.5, 1])
    np.testing.assert_allclose(warped[0, 0, 2], first, atol=1e-5)
    np.testing.assert_allclose(warped[1, 0, 4], other, atol=1e-5)
    still = torch.rand(2, 1, 5, frames, generator=generator())
    torch.testing.assert_close(warp_time(still, torch.tensor([0.3, 0.6]), torch.zeros(2)), still)


def test_a_moment_may_move_to_an_end() -> None:
    x = torch.rand(2, 1, 4, 20, generator=generator())
    warped = warp_time(x, torch.tensor([0.2, 0.8]), torch.tensor([-0.2, 0.2]))
    assert torch.isfinite(warped).all()


@given(st.floats(0, 0.49), st.integers(0, 2**40))
def test_the_moment_that_moves_stays_inside(share: float, seed: int) -> None:
    centre, shift = draw_warp(64, share, generator(seed))
    assert (shift.abs() <= share + 1e-6).all()
    assert ((centre + shift - 0.5).abs() <= 0.5 + 1e-6).all()


def test_settings_out_of_range() -> None:
    for wrong in ({"time_share": 1.1}, {"frequency_masks": -1}, {"time_warp": 0.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SpecAugmentSettings(**wrong)  # type: ignore[arg-type]
