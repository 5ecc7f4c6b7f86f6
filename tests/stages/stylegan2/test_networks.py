"""Counts of parameters as published, and what the networks do with latents and groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from stages.engine.fabric import channels_last
from stages.stylegan2.discriminator import Discriminator, minibatch_deviation
from stages.stylegan2.generator import Generator, n_latents
from stages.stylegan2.layers import Conv, Modulated

LAST = torch.channels_last
TINY = {"resolution": 16, "z_dim": 8, "w_dim": 12, "mapping_layers": 2, "base": 128, "most": 16}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("resolution", "base", "latents", "generator", "discriminator"),
    [
        (256, 32768, 14, 30_034_338, 28_864_129),
        (256, 16384, 14, 24_767_458, 24_001_089),
        (1024, 32768, 18, 30_370_060, 29_012_513),
    ],
)
def test_parameters_are_as_published(
    resolution: int, base: int, latents: int, generator: int, discriminator: int
) -> None:
    with torch.device("meta"):
        made = Generator(resolution=resolution, base=base)
        assert count(made) == generator
        assert count(made.mapping) == 2_101_248
        assert made.n_latents == latents
        assert count(Discriminator(resolution=resolution, base=base)) == discriminator
    assert n_latents(512) == 16


def test_pictures_depend_on_their_own_latents_alone() -> None:
    torch.manual_seed(0)
    generator = Generator(**TINY).eval()
    z = torch.randn(4, 8)
    whole = generator(z).pictures
    assert whole.shape == (4, 3, 16, 16)
    torch.testing.assert_close(generator(z[2:3]).pictures, whole[2:3], atol=1e-5, rtol=1e-4)
    assert float((whole[0] - whole[1]).abs().max()) > 0.01


def test_each_latent_moves_its_own_layers() -> None:
    """A change of latent l leaves the colours of all earlier layers as they are."""
    torch.manual_seed(0)
    generator = Generator(**TINY).eval()
    ws = generator.latents(torch.randn(1, 8)).detach().clone().requires_grad_()
    assert ws.shape == (1, n_latents(16), 12) == (1, 6, 12)
    generator.synthesis(ws).square().sum().backward()
    assert ws.grad is not None
    assert (ws.grad.abs().sum(dim=2) > 0).all()  # all six are used
    moved = ws.detach().clone()
    moved[:, -1] += 1  # the last one is of the finest colours alone
    rgb = {}
    for name, value in (("before", ws.detach()), ("after", moved)):
        seen: list[torch.Tensor] = []
        hook = generator.synthesis.blocks[-1].same.register_forward_hook(
            lambda _m, _i, out, seen=seen: seen.append(out)
        )
        generator.synthesis(value)
        hook.remove()
        rgb[name] = seen[0]
    torch.testing.assert_close(rgb["before"], rgb["after"])


def test_style_mixing_takes_the_other_from_the_cut_on() -> None:
    torch.manual_seed(0)
    generator = Generator(**TINY).eval()
    a, b = torch.randn(3, 8), torch.randn(3, 8)
    ws = generator(a, other=b, cuts=torch.tensor([0, 2, 6])).latents
    own, other = generator(a).latents, generator(b).latents
    torch.testing.assert_close(ws[0], other[0])
    torch.testing.assert_close(ws[1, :2], own[1, :2])
    torch.testing.assert_close(ws[1, 2:], other[1, 2:])
    torch.testing.assert_close(ws[2], own[2])


def test_truncation_goes_towards_the_mean() -> None:
    torch.manual_seed(0)
    generator = Generator(**TINY)
    z = torch.randn(64, 8)
    for _ in range(40):
        generator(z)
    w = generator.mapping(z)
    mean = generator.mapping.w_mean
    expected = w.mean(dim=0) * (1 - 0.998**40)
    torch.testing.assert_close(mean, expected.detach(), atol=1e-5, rtol=1e-4)
    half = generator.latents(z, 0.5)[:, 0]
    torch.testing.assert_close(half, mean + 0.5 * (w - mean), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(generator.latents(z, 0.0)[:, 3], mean.expand(64, -1))
    generator.eval()
    generator(z)
    torch.testing.assert_close(generator.mapping.w_mean, mean)


def test_fresh_noise_is_of_the_generator() -> None:
    torch.manual_seed(0)
    generator = Generator(**TINY).eval()
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_gain"):
                parameter.fill_(0.5)
    z = torch.randn(1, 8)

    def paint(seed: int | None) -> torch.Tensor:
        rng = None if seed is None else torch.Generator().manual_seed(seed)
        return generator(z, rng=rng).pictures

    torch.testing.assert_close(paint(None), paint(None))
    torch.testing.assert_close(paint(1), paint(1))
    assert float((paint(1) - paint(2)).abs().max()) > 0.01


def test_minibatch_deviation_is_that_of_the_group() -> None:
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = minibatch_deviation(x)
    assert found.shape == (8, 1, 4, 4)
    for b in range(8):
        group = x.numpy()[[b % 2, b % 2 + 2, b % 2 + 4, b % 2 + 6]]
        wanted = np.sqrt(group.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(found[b], wanted, rtol=1e-5)
    assert float(minibatch_deviation(x[:1]).max()) == pytest.approx(1e-4)  # nobody to compare with
    assert minibatch_deviation(x[:7]).shape == (7, 1, 4, 4)


@pytest.mark.parametrize("resolution", [4, 48, 0])
def test_other_sides_are_refused(resolution: int) -> None:
    for network in (Generator, Discriminator):
        with pytest.raises(ValueError, match="power of 2"):
            network(resolution=resolution)


def test_laid_out_networks_keep_their_features_channels_last() -> None:
    torch.manual_seed(0)
    sizes = {name: TINY[name] for name in ("resolution", "base", "most")}
    generator, discriminator = Generator(**TINY), Discriminator(**sizes)
    before = discriminator(generator(torch.ones(2, 8)).pictures)
    layouts: list[bool] = []
    for network in (generator, discriminator):
        channels_last(network)
        for layer in network.modules():
            if isinstance(layer, (Conv, Modulated)):
                layer.register_forward_hook(
                    lambda _, __, x: layouts.append(x.is_contiguous(memory_format=LAST))
                )
    after = discriminator(generator(torch.ones(2, 8)).pictures)
    assert layouts
    assert all(layouts)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
