"""AdaIN's layer against NumPy, the decoder's published size, and where gradients go."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from stages.adain.model import AdaIn, Decoder, adain


def test_the_layer_in_float64() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (2, 4, 5, 6)), rng.gamma(1, 2, (2, 4, 7, 3))
    axes, kept = (2, 3), {"keepdims": True}

    def std(z: np.ndarray) -> np.ndarray:
        return np.sqrt(z.var(axes, ddof=1, **kept) + 1e-5)

    wanted = std(y) * (x - x.mean(axes, **kept)) / std(x) + y.mean(axes, **kept)
    found = adain(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    np.testing.assert_allclose(found.mean(axes), y.mean(axes), rtol=1e-10)
    np.testing.assert_allclose(found.std(axes, ddof=1), y.std(axes, ddof=1), rtol=1e-4)


def test_the_decoder_is_the_published_one() -> None:
    """Counted layer by layer: 512-256-256-256-256-128-128-64-64-3."""
    widths = [512, 256, 256, 256, 256, 128, 128, 64, 64, 3]
    wanted = [b * a * 9 + b for a, b in pairwise(widths)]
    decoder = Decoder()
    layers = [module for module in decoder.children() if isinstance(module, torch.nn.Conv2d)]
    assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == wanted
    assert sum(wanted) == 3_505_219
    with torch.no_grad():
        assert decoder(torch.zeros(1, 512, 4, 6)).shape == (1, 3, 32, 48)


@pytest.fixture
def small() -> AdaIn:
    torch.manual_seed(0)
    return AdaIn(width=8, levels=3)


def test_gradients_go_to_the_decoder_alone(small: AdaIn) -> None:
    content, style = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    small(content, style).made[-1].square().mean().backward()
    assert all(p.grad is None for p in small.encoder.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in small.decoder.parameters())


@torch.no_grad()
def test_alpha_goes_from_the_content_to_the_style(small: AdaIn) -> None:
    content, style = 2 * torch.rand(2, 3, 16, 16) - 1, 2 * torch.rand(2, 3, 24, 16) - 1
    own = small.encoder(content / 2 + 0.5)[-1]  # it sees [0, 1]
    back = 2 * small.decoder(own) - 1
    torch.testing.assert_close(small.restyle(content, style, alpha=0), back.clamp(-1, 1))
    whole = small(content, style)
    torch.testing.assert_close(small.restyle(content, style), whole.picture.clamp(-1, 1))
    torch.testing.assert_close(whole.target, adain(own, small.encoder(style / 2 + 0.5)[-1]))
    assert whole.picture.shape == content.shape
    assert [f.shape[1] for f in whole.made] == [8, 16, 32]
