"""Adaptive augmentation: each transformation alone against a plain one, and how p follows."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch

from stages.stylegan2.augment import (
    Augment,
    Draw,
    colour,
    geometry,
    grey_scaled,
    hue_turned,
    moved,
    pixel_shift,
    recoloured,
    rotation,
    saturated,
    scaling,
    translation,
)


def pictures(count: int = 2, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def one(value: float, count: int = 2) -> torch.Tensor:
    return torch.full((count,), float(value))


def test_flips_turns_and_whole_shifts_only_move_pixels() -> None:
    x = pictures()
    flipped = moved(x, scaling(one(-1), one(1)))
    torch.testing.assert_close(flipped, x.flip(3), atol=1e-5, rtol=0)
    turned = moved(x, rotation(one(90)))
    quarter = min((turned - torch.rot90(x, k, (2, 3))).abs().max() for k in (1, 3))
    assert float(quarter) < 1e-4
    shifted = moved(x, translation(one(2 * 2 / 8), one(-2 * 1 / 8)))  # reads 2 to the right, 1 up
    torch.testing.assert_close(shifted[:, :, 1:, :-2], x[:, :, :-1, 2:], atol=1e-5, rtol=0)


def test_colours_turn_around_the_greys() -> None:
    x = pictures()
    grey = x.mean(dim=1)
    hue = hue_turned(one(2 * math.pi / 3))
    torch.testing.assert_close(torch.einsum("bij,bjhw->bihw", hue, x), x.roll(1, dims=1))
    for matrix in (hue, saturated(one(0.3))):
        mixed = torch.einsum("bij,bjhw->bihw", matrix, x)
        torch.testing.assert_close(mixed.mean(dim=1), grey)
    none = torch.einsum("bij,bjhw->bihw", saturated(one(0)), x)
    torch.testing.assert_close(none, grey[:, None].expand(-1, 3, -1, -1))
    turned = torch.einsum("bij,bjhw->bihw", grey_scaled(one(-1)), x)
    torch.testing.assert_close(turned.mean(dim=1), -grey)
    torch.testing.assert_close(turned - turned.mean(1, True), x - x.mean(1, True))
    red = np.array(hue[0] @ torch.tensor([1.0, 0, 0]))
    assert colorsys.rgb_to_hsv(*red)[0] == pytest.approx(1 / 3)  # green


def test_never_and_always() -> None:
    x = pictures(4)
    rng = torch.Generator().manual_seed(0)
    assert Augment(0.6, 1000)(x, rng) is x
    draw = Draw(500, 0.0, rng, torch.device("cpu"))
    identity = torch.eye(3).expand(500, 3, 3)
    torch.testing.assert_close(geometry(draw), identity)
    torch.testing.assert_close(pixel_shift(draw, 8), identity)
    torch.testing.assert_close(colour(draw), torch.eye(4).expand(500, 4, 4))
    always = Draw(500, 1.0, rng, torch.device("cpu"))
    shift = pixel_shift(always, 64)[:, :2, 2] * 32
    torch.testing.assert_close(shift, shift.round(), atol=1e-4, rtol=0)
    assert float(shift.abs().max()) == 8
    area = torch.det(geometry(always)).abs().log2()  # 2 log2 of the scale: deviation 2 · .2
    assert float(area.std()) == pytest.approx(0.4, rel=0.15)
    half = geometry(Draw(2000, 0.5, rng, torch.device("cpu")))
    still = (half - torch.eye(3)).abs().amax(dim=(1, 2)) < 1e-6
    # Each of the others leaves things alone with 1/2, flips and turns by chance more often.
    assert float(still.float().mean()) < 0.05


def test_gradients_flow_and_the_generator_decides() -> None:
    x = pictures(4).requires_grad_()
    augment = Augment(0.6, 1000, p=0.9)
    a, b = (augment(x, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    a.square().sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().sum()) > 0
    other = augment(x, torch.Generator().manual_seed(4))
    assert not torch.equal(a, other)


def test_brightness_is_added_and_contrast_scales() -> None:
    x = pictures()
    matrices = torch.eye(4).repeat(2, 1, 1)
    matrices[:, :3, :3] *= 0.5
    matrices[:, :3, 3] = 0.25
    torch.testing.assert_close(recoloured(x, matrices), 0.5 * x + 0.25)


def test_p_follows_the_overfitting() -> None:
    augment = Augment(0.6, 1000)
    for sign, wanted in ((0.9, 0.1), (0.7, 0.2), (0.3, 0.1), (0.0, 0.0), (0.0, 0.0)):
        augment.adapt(torch.tensor(sign), 100)
        assert float(augment.p) == pytest.approx(wanted)
