"""StyleGAN2's layers against scipy's upfirdn and plain convolutions, one sample at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import upfirdn
from torch.nn import functional as F

from stages.stylegan2.layers import Conv, Linear, Modulated, Smooth, Upsample

TAPS = np.array([1, 3, 3, 1]) / 8


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filtered(
    x: NDArray[np.float64], up: int, pads: tuple[int, int], down: int = 1, gain: float = 1
) -> NDArray[np.float64]:
    """Insert zeros, pad (before, after; less than 0 crops), filter, keep every down-th: 2-D."""
    for axis in (-2, -1):
        spread = np.moveaxis(x, axis, -1)
        zeros = np.zeros((*spread.shape[:-1], spread.shape[-1] * up))
        zeros[..., ::up] = spread
        padded = np.pad(zeros, [*[(0, 0)] * (zeros.ndim - 1), pads])
        line = upfirdn(TAPS * math.sqrt(gain), padded)[..., 3 : padded.shape[-1]]  # what is whole
        x = np.moveaxis(line[..., ::down], -1, axis)
    return x


def test_upsampling_is_upfirdn() -> None:
    x = noise(2, 3, 5, 6)
    found = Upsample().double()(x)
    assert found.shape == (2, 3, 10, 12)
    np.testing.assert_allclose(found, filtered(x.numpy(), 2, (2, 1), gain=4), atol=1e-12)


@pytest.mark.parametrize(("grow", "pads"), [(-1, (1, 0)), (0, (1, 1)), (2, (2, 2))])
def test_the_filter_is_upfirdn(grow: int, pads: tuple[int, int]) -> None:
    x = noise(2, 3, 8, 6)
    found = Smooth(grow).double()(x)
    np.testing.assert_allclose(found, filtered(x.numpy(), 1, pads), atol=1e-12)


@pytest.mark.parametrize(("size", "pads"), [(1, (1, 1)), (3, (2, 2))])
def test_down_sampling_filters_and_strides(size: int, pads: tuple[int, int]) -> None:
    x = noise(2, 4, 8, 8)
    conv = Conv(4, 5, size, down=True).double()
    smooth = torch.from_numpy(filtered(x.numpy(), 1, pads))
    wanted = F.conv2d(smooth, conv.weight / math.sqrt(4 * size * size), stride=2)
    assert wanted.shape == (2, 5, 4, 4)
    torch.testing.assert_close(conv(x), wanted)


@pytest.mark.parametrize("up", [False, True])
def test_a_modulated_convolution_is_one_of_each_sample(up: bool) -> None:
    x, w = noise(3, 4, 6, 6), noise(3, 7, seed=1)
    layer = Modulated(4, 5, 3, 7, up=up).double()
    x.requires_grad_()
    found = layer(x, w)
    for one in range(3):
        style = layer.affine.weight @ w[one] / math.sqrt(7) + layer.affine.bias
        own = layer.weight * style[None, :, None, None] / math.sqrt(4 * 9)
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # zeros between the pixels, then the convolution, then the filter
            spread = torch.zeros(4, 11, 11, dtype=torch.float64)
            spread[:, ::2, ::2] = x[one].detach()
            wide = F.conv2d(F.pad(spread, (2, 2, 2, 2))[None], own.flip(2, 3))[0]
            wanted = torch.from_numpy(filtered(wide.detach().numpy(), 1, (1, 1), gain=4))
        else:
            wanted = F.conv2d(x[one : one + 1].detach(), own, padding=1)[0]
        np.testing.assert_allclose(found[one].detach(), wanted.detach(), atol=1e-12)
    inputs = x.detach()[:1, :, :3, :3].requires_grad_(), w[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: layer(a, b)[:, :2], inputs)


def test_without_demodulation_weights_are_equalised() -> None:
    x, w = noise(2, 4, 6, 6), noise(2, 7, seed=1)
    layer = Modulated(4, 3, 1, 7, demodulate=False).double()
    styles = w @ layer.affine.weight.T / math.sqrt(7) + layer.affine.bias
    wanted = torch.einsum("bihw,bi,oi->bohw", x, styles, layer.weight[:, :, 0, 0]) / 2
    torch.testing.assert_close(layer(x, w), wanted)


def test_a_slow_layer_starts_like_a_quick_one() -> None:
    """The mapping network learns at a hundredth of the pace, and puts out the same scale."""
    torch.manual_seed(0)
    x = torch.randn(500, 64)
    for pace in (1.0, 0.01):
        layer = Linear(64, 200, pace=pace, start=3.0)
        out = layer(x).detach()
        assert float(out.mean()) == pytest.approx(3, abs=0.1)
        assert float(out.std()) == pytest.approx(1, abs=0.1)
