"""Eq. 14–17 against closed forms in float64, and where they are degenerate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.losses.manipulation import (
    Mask,
    guidance_hinge,
    identity_distance,
    layer_mask,
    masked_distance,
)

B, L, W = 3, 5, 4


def drawn(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_the_hinge_is_one_at_the_source_and_falls_as_the_similarity_rises() -> None:
    s = torch.tensor([0.2, 0.5, -0.3, 1.0], dtype=torch.float64, requires_grad=True)
    s_0 = torch.tensor([0.2, 0.1, 0.4, -0.5], dtype=torch.float64)
    loss = guidance_hinge(s, s_0)
    torch.testing.assert_close(loss.tolist(), [1.0, 0.6, 1.7, 0.0])
    loss.sum().backward()
    assert s.grad is not None
    assert s.grad.tolist() == [-1, -1, -1, 0]  # nearer is better, and enough is enough


def expected(moved: Tensor, source: Tensor, gate: Tensor, mask: Mask) -> list[float]:
    """The equation by numpy, sample by sample."""
    values = []
    for w, w_s, g in zip(moved.numpy(), source.numpy(), gate.numpy(), strict=True):
        share = np.exp(g) / np.exp(g).sum()
        lengths = ((w - w_s) ** 2).sum(axis=1)  # of each layer
        if mask == "even":
            values.append(lengths.sum())
        elif mask == "squared":
            values.append(((L * share) ** 2 * lengths).sum())
        else:
            values.append(np.sqrt((share**2 * lengths).sum()))
    return values


@pytest.mark.parametrize("mask", ["squared", "literal", "even"])
def test_the_masked_distance(mask: Mask) -> None:
    moved, source, gate = drawn(B, L, W), drawn(B, L, W, seed=1), drawn(B, L, seed=2)
    own = masked_distance(moved, source, gate, mask)
    np.testing.assert_allclose(own, expected(moved, source, gate, mask), rtol=1e-12)
    if mask == "squared":  # at first, g = 0, every layer counts once
        even = (moved - source).square().sum(dim=(1, 2))
        torch.testing.assert_close(masked_distance(moved, source, 0 * gate, mask), even)

    def loss(w: Tensor, g: Tensor) -> Tensor:
        return masked_distance(w, source, g, mask)

    arguments = moved.requires_grad_(), gate.requires_grad_()
    assert torch.autograd.gradcheck(loss, arguments)


@pytest.mark.parametrize("mask", ["squared", "literal", "even"])
def test_at_the_source_the_gradient_is_zero(mask: Mask) -> None:
    w_s = drawn(B, L, W)
    w, gate = w_s.clone().requires_grad_(), torch.zeros(B, L, dtype=torch.float64)
    gate.requires_grad_()
    loss = masked_distance(w, w_s, gate, mask).sum()
    gradients = torch.autograd.grad(loss, (w, gate), allow_unused=True)
    assert loss == 0
    for gradient in gradients:
        assert gradient is None or (gradient == 0).all()


def test_masks_have_a_mean_of_one_and_weigh_what_moves_least() -> None:
    gate = torch.zeros(1, L, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer_mask(drawn(B, L)).mean(dim=1), torch.ones(B).double())
    far = torch.arange(L, dtype=torch.float64)[None, :, None].expand(1, L, W)
    (own,) = torch.autograd.grad(masked_distance(far, 0 * far, gate).sum(), gate)
    assert (own.diff(dim=1) > 0).all()  # g of what has moved farthest falls fastest


def test_the_literal_reading_hardly_holds() -> None:
    """At the same step it is L times smaller than the length, and L² below it when squared."""
    w, gate = drawn(1, 18, W), torch.zeros(1, 18, dtype=torch.float64)
    literal = masked_distance(w, 0 * w, gate, "literal")
    torch.testing.assert_close(literal, w.flatten(1).norm(dim=1) / 18)


def test_unknown_readings_are_refused() -> None:
    zeros = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="squared, literal or even"):
        masked_distance(zeros, zeros, zeros[..., 0], "cubed")  # type: ignore[arg-type]


def test_the_identity_moves_the_moved_face_alone() -> None:
    unit = torch.nn.functional.normalize
    moved, source = drawn(B, W).requires_grad_(), drawn(B, W, seed=1).requires_grad_()
    loss = identity_distance(unit(moved, dim=1), unit(source, dim=1))
    cosines = torch.cosine_similarity(moved, source, dim=1)
    torch.testing.assert_close(loss, 1 - cosines)
    loss.sum().backward()
    assert source.grad is None
    assert moved.grad is not None
    assert (moved.grad.norm(dim=1) > 0.01).all()
    same = unit(drawn(B, W), dim=1).requires_grad_()
    identity_distance(same, same).sum().backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()
