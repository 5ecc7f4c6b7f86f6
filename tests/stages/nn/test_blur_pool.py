"""Halving and doubling against closed forms and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from stages.nn.blur_pool import BlurPool, doubled


def test_an_edge_by_hand() -> None:
    row = torch.tensor([[[[8.0, 0, 0, 0, 4, 4]]]]).expand(1, 1, 5, 6)
    # Along the row, mirrored about its ends: (0 + 2·8 + 0)/4, (0 + 2·0 + 0)/4, (0 + 2·4 + 4)/4.
    assert BlurPool()(row)[0, 0].tolist() == [[4, 0, 3]] * 3
    pair = torch.tensor([[[[8.0, 0.0]]]])
    assert doubled(pair)[0, 0].tolist() == [[8, 6, 2, 0]] * 2


@pytest.mark.parametrize("size", [(8, 12), (7, 5), (63, 62)])
def test_halving_is_the_binomial_filter_and_every_second_pixel(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, *size))
    expected = x
    for axis in (2, 3):
        expected = correlate1d(expected, [0.25, 0.5, 0.25], axis=axis, mode="mirror")
    ours = BlurPool().double()(torch.from_numpy(x)).numpy()
    assert ours.shape == (2, 3, -(-size[0] // 2), -(-size[1] // 2))
    np.testing.assert_allclose(ours, expected[:, :, ::2, ::2], atol=1e-12)


def test_doubling_is_1331_on_zeros_between_pixels() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    expected = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    for axis in (2, 3):
        length = expected.shape[axis]
        spread = np.insert(expected, range(1, length + 1), 0.0, axis=axis)  # x0 0 x1 0 …
        wide = np.apply_along_axis(np.convolve, axis, spread, np.array([1, 3, 3, 1]) / 4)
        # Of the full convolution: what belongs to the pixels between the two repeated ones.
        expected = np.take(wide, range(3, 3 + 2 * (length - 2)), axis=axis)
    np.testing.assert_allclose(doubled(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


def test_nothing_of_it_is_learnt_or_kept() -> None:
    pool = BlurPool()
    assert not list(pool.parameters())
    assert not pool.state_dict()
    constant = torch.full((1, 2, 6, 6), 3.0)
    assert torch.equal(pool(constant), constant[:, :, ::2, ::2])
    assert torch.equal(doubled(constant), torch.full((1, 2, 12, 12), 3.0))


def test_half_precision_and_layout_are_kept() -> None:
    x = torch.randn(2, 3, 8, 6).to(torch.bfloat16).to(memory_format=torch.channels_last)
    exact = BlurPool()(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        ours = BlurPool()(x)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, exact.to(torch.bfloat16))  # rounded once, at the end
    assert ours.is_contiguous(memory_format=torch.channels_last)
