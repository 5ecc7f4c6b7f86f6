"""StyleGAN3: its published size, its parts against plain compositions, and equivariance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages.stylegan3.generator import Generator, Layer, Waves
from stages.stylegan3.plan import Band, bands

TINY = {"resolution": 32, "z_dim": 16, "w_dim": 12, "base": 512, "most": 24}


@pytest.fixture
def generator() -> Generator:
    """Random, with the magnitudes that training would have found."""
    torch.manual_seed(0)
    made = Generator(**TINY).eval()

    def note(layer: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, Layer)
        layer.magnitude_ema.copy_(given[0].square().mean())

    hooks = [layer.register_forward_pre_hook(note) for layer in made.synthesis.layers]
    with torch.no_grad():
        made.mapping.w_mean.normal_()
        made(torch.randn(4, 16))
    for hook in hooks:
        hook.remove()
    return made


def test_it_has_the_published_size() -> None:
    """22.3 M at 1024 px in the paper's table; the rest by its configuration."""
    with torch.device("meta"):
        made = Generator(resolution=1024)
    channels = [512] * 7 + [323, 203, 128, 81, 51, 32, 32]
    before = [512, *channels]
    expected = 2 * (512 * 512 + 512)  # the mapping
    expected += 512 * 512 + 4 * 512 + 4  # the waves
    for came, out in zip(before[:-1], channels, strict=True):
        expected += 9 * came * out + out + 512 * came + came
    expected += 32 * 3 + 3 + 512 * 32 + 32  # the colours
    count = sum(p.numel() for p in made.parameters())
    assert count == expected == 22_313_167
    assert (made.n_latents, sum(p.numel() for p in made.mapping.parameters())) == (16, 525_312)


def test_pictures_move_with_their_waves(generator: Generator) -> None:
    """Waves moved by k pixels give the picture moved by k pixels: the texture does not stick."""
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    for k in (1, 4):
        with torch.no_grad():
            generator.synthesis.waves.transform.copy_(torch.eye(3))
            still = generator(z)
            generator.synthesis.waves.transform[0, 2] = k / 32
            moved = generator(z)
        apart = (moved[..., :-k] - still[..., k:]).std() / still.std()
        assert apart < 0.01
        assert (moved - still).std() / still.std() > 0.05
        assert apart < (moved - still).std() / still.std() / 20


def test_each_sample_stands_alone(generator: Generator) -> None:
    ws = torch.randn(3, generator.n_latents, 12)
    with torch.no_grad():
        together = generator.synthesis(ws)
        for one, picture in zip(ws, together, strict=True):
            torch.testing.assert_close(
                generator.synthesis(one[None])[0], picture, atol=1e-4, rtol=1e-3
            )


def test_truncation_goes_towards_the_mean(generator: Generator) -> None:
    z = torch.randn(2, 16)
    with torch.no_grad():
        w = generator.mapping(z)
        between = generator.mapping.w_mean + 0.7 * (w - generator.mapping.w_mean)
        expected = generator.synthesis(between[:, None].repeat(1, 16, 1))
        torch.testing.assert_close(generator(z, 0.7), expected)


def test_a_gradient_reaches_every_latent(generator: Generator) -> None:
    ws = torch.randn(1, generator.n_latents, 12, requires_grad=True)
    generator.synthesis(ws).square().sum().backward()
    assert ws.grad is not None
    assert ws.grad.isfinite().all()
    # The first latent turns and moves the waves; untrained, it does neither.
    assert (ws.grad[0, 1:].abs().sum(dim=1) > 0).all()


def test_a_layer_is_a_convolution_with_weights_of_each_sample() -> None:
    """The paper's: weights over their mean square, times the style, demodulated, per sample."""
    torch.manual_seed(2)
    plan = bands(32, base=256, most=6)
    layer = Layer(plan[3], plan[4], 5).double()
    layer.magnitude_ema.fill_(3.0)
    x, w = torch.randn(2, 6, plan[3].side, plan[3].side).double(), torch.randn(2, 5).double()
    with torch.no_grad():
        layer.bias.normal_()
        found = layer(x, w)
        for b in range(2):
            style = layer.affine.weight @ w[b] / math.sqrt(5) + 1
            style = style / style.square().mean().sqrt()
            weight = layer.weight / layer.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            weight = weight * style[None, :, None, None]
            weight = weight / weight.square().sum(dim=(1, 2, 3), keepdim=True).add(1e-8).sqrt()
            y = F.conv2d(x[b : b + 1], weight / math.sqrt(3), padding=2)
            torch.testing.assert_close(found[b], layer.filtered(y, layer.bias)[0])


def test_waves_are_sines_of_turned_frequencies() -> None:
    """f' = R f and φ' = φ + f · R (-t), sample by sample, in float64; too fast ones are damped."""
    torch.manual_seed(3)
    band = Band(cutoff=2.0, half_width=6.0, rate=16, side=36, channels=5)
    waves = Waves(band, 3).double()
    assert (waves.freqs.norm(dim=1) <= 2).all()
    with torch.no_grad():
        waves.affine.weight.normal_()
        waves.affine.bias.normal_()
        waves.transform.copy_(torch.tensor([[2.5, 0.1, 0.2], [0.3, 2.0, -0.1], [0, 0, 1]]))
        w = torch.randn(2, 3).double()
        found = waves(w)
        numbers = (waves.affine.weight @ w.T / math.sqrt(3)).T + waves.affine.bias
    f, phi = waves.freqs.numpy(), waves.phases.numpy()
    m, mix = waves.transform.numpy(), waves.weight.detach().numpy() / math.sqrt(5)
    for b, (c, s, tx, ty) in enumerate(numbers.numpy()):
        c, s, tx, ty = np.array([c, s, tx, ty]) / math.hypot(c, s)
        whole = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
            [[1, 0, -tx], [0, 1, -ty], [0, 0, 1]]
        )
        whole = whole @ m
        turned, moved = f @ whole[:2, :2], phi + f @ whole[:2, 2]
        damped = np.clip(1 - (np.linalg.norm(turned, axis=1) - 2) / (8 - 2), 0, 1)
        assert damped.min() < 1
        for i, j in ((0, 0), (35, 7), (18, 18)):
            place = (np.array([j, i]) + 0.5 - 18) / 16
            own = mix @ (damped * np.sin(2 * np.pi * (turned @ place + moved)))
            np.testing.assert_allclose(found[b, :, i, j], own, atol=1e-9)
