"""Filters against scipy, the filtered nonlinearity against a composition in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal

from stages.stylegan3.filters import Filtered, lowpass
from stages.stylegan3.plan import bands


@pytest.mark.parametrize(
    ("taps", "cutoff", "width", "rate"),
    [(12, 2.0, 12.0, 32), (24, 5.04, 21.92, 128), (12, 512.0, 236.7, 2048), (12, 8.0, 0.5, 64)],
)
def test_filters_are_scipys(taps: int, cutoff: float, width: float, rate: int) -> None:
    """The last has so narrow a band that the window is flat."""
    expected = signal.firwin(taps, cutoff, width=width, fs=rate)
    np.testing.assert_allclose(lowpass(taps, cutoff, width, rate), expected, atol=1e-7)


def symmetric(taps: np.ndarray) -> torch.Tensor:
    """Return a filter that is its own mirror image, as all low-pass filters here."""
    return torch.from_numpy(taps + taps[::-1]).float()


def plain(x: np.ndarray, bias: float, layer: Filtered, up: int, down: int) -> np.ndarray:
    """Zeros between, full convolution, the middle, leaky ReLU, convolution, every so manyth."""
    fine, coarse = (t.numpy().astype(np.float64) for t in (layer.up_taps, layer.down_taps))
    x = x.astype(np.float64) + bias

    def finer(line: np.ndarray) -> np.ndarray:
        between = np.zeros((len(line) - 1) * up + 1)
        between[::up] = line
        full = np.convolve(between, fine)
        cut = (len(full) - layer.needed) // 2
        return full[cut : len(full) - cut] if cut >= 0 else np.pad(full, -cut)

    def coarser(line: np.ndarray) -> np.ndarray:
        return np.convolve(line, coarse, "valid")[::down]

    for axis in (0, 1):
        x = np.apply_along_axis(finer, axis, x)
    if not layer.linear:
        x = np.where(x > 0, x, 0.2 * x) * np.sqrt(2)
    x = x.clip(-256, 256)
    for axis in (0, 1):
        x = np.apply_along_axis(coarser, axis, x)
    return x


@pytest.mark.parametrize(
    ("n_in", "n_out", "up", "down", "linear"),
    [
        (18, 16, 2, 2, False),  # a margin goes
        (18, 26, 4, 2, False),  # to twice the side
        (10, 12, 2, 2, False),  # there is less than is needed: zeros
        (12, 12, 1, 1, True),  # of colours
    ],
)
def test_the_filtered_nonlinearity_is_its_composition(
    n_in: int, n_out: int, up: int, down: int, linear: bool
) -> None:
    rng = np.random.default_rng(n_in + up)
    taps = [None if f == 1 else symmetric(rng.normal(size=6 * f)) for f in (up, down)]
    layer = Filtered(
        n_in, n_out, up=up, up_taps=taps[0], down=down, down_taps=taps[1], linear=linear
    )
    x, bias = rng.normal(0, 40, (2, 3, n_in, n_in)), rng.normal(size=3)
    found = layer(torch.from_numpy(x).double(), torch.from_numpy(bias))
    assert found.shape == (2, 3, n_out, n_out)
    for b in range(2):
        for c in range(3):
            expected = plain(x[b, c], bias[c], layer, up, down)
            np.testing.assert_allclose(found[b, c], expected, rtol=1e-9, atol=1e-6)


def test_nothing_is_shifted() -> None:
    """Waves that both grids hold come out where they went in, a little weaker."""
    n, rate = 40, 32
    taps = lowpass(12, 8, 16, 2 * rate)
    layer = Filtered(n, 36, up=2, up_taps=taps, down=2, down_taps=taps)
    at = 2 * np.pi * (np.arange(n) + 0.5 - n / 2) / rate
    wave = 5 + np.cos(2 * at[:, None]) + np.sin(3 * at[None, :])
    given = torch.from_numpy(wave)[None, None].float()
    out = layer(given, torch.zeros(1))[0, 0, 8:-8, 8:-8]  # all positive, so the ReLU does nothing
    y, x = np.meshgrid(at[10:-10], at[10:-10], indexing="ij")
    parts = [np.ones_like(x), np.cos(2 * y), np.sin(3 * x), np.sin(2 * y), np.cos(3 * x)]
    basis = np.stack([part.ravel() for part in parts], axis=1)
    found = np.linalg.lstsq(basis, out.numpy().ravel() / np.sqrt(2), rcond=None)[0]
    assert found[0] == pytest.approx(5, abs=1e-2)
    assert 0.7 < found[2] < found[1] < 1
    np.testing.assert_allclose(found[3:], 0, atol=2e-3)  # a shift by 1/10 sample gives 0.04


def test_grids_without_a_common_middle_are_refused() -> None:
    with pytest.raises(ValueError, match="no common middle"):
        Filtered(17, 16, up=1, up_taps=None, down=1, down_taps=None)


def test_the_plan_is_that_of_the_published_generator() -> None:
    """Rates, sides and channels as the names and printouts of stylegan3-t at 1024 px have them."""
    found = bands(1024)
    sides = [36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024]
    channels = [512] * 7 + [323, 203, 128, 81, 51, 32, 32, 3]
    rates = [16, 16, 32, 32, 64, 128, 128, 256, 256, 512, *[1024] * 5]
    assert [band.side for band in found] == sides
    assert [band.channels for band in found] == channels
    assert [band.rate for band in found] == rates
    cutoffs = [2, 3.1748, 5.03968, 8, 12.6992, 20.1587, 32, 50.7968, 80.6349, 128, 203.187]
    halves = [6, 4.8252, 10.9603, 8, 19.3008, 43.8413, 32, 77.2032, 47.3651, 128, 308.813]
    np.testing.assert_allclose(
        [band.cutoff for band in found], [*cutoffs, 322.54, 512, 512, 512], rtol=1e-5
    )
    np.testing.assert_allclose(
        [band.half_width for band in found], [*halves, 189.46, *[118.346] * 3], rtol=1e-5
    )
