"""PatchNCE in closed form and by explicit loops in float64; where its gradient goes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stages.losses.patch_nce import patch_nce


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def vectors(*shape: int) -> Tensor:
    return F.normalize(torch.randn(shape), dim=-1)


def by_loops(q: NDArray[np.float64], k: NDArray[np.float64], tau: float) -> float:
    """One layer: each patch of each picture for itself."""
    losses = []
    for picture in range(len(q)):
        for i in range(q.shape[1]):
            positive = float(np.dot(q[picture, i], k[picture, i]))
            negatives = [
                -10.0 if j == i else float(np.dot(q[picture, i], k[picture, j]))
                for j in range(q.shape[1])
            ]
            total = sum(math.exp(s / tau) for s in [positive, *negatives])
            losses.append(-math.log(math.exp(positive / tau) / total))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 1.0, 20.0])
def test_value_by_loops(temperature: float) -> None:
    shapes = ((3, 7, 5), (3, 4, 2))  # of two layers
    q, k = [vectors(*s) for s in shapes], [vectors(*s) for s in shapes]
    expected = [
        by_loops(a.double().numpy(), b.double().numpy(), temperature)
        for a, b in zip(q, k, strict=True)
    ]
    ours = patch_nce(q, k, temperature).item()
    assert ours == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_layers_count_alike_whatever_their_number_of_patches() -> None:
    lost = patch_nce([torch.ones(1, 256, 4) / 2], [torch.ones(1, 256, 4) / 2])
    assert lost.item() == pytest.approx(math.log(256), abs=1e-5)  # nothing told apart
    found = torch.eye(3)[None]
    both = patch_nce([torch.ones(1, 256, 4) / 2, found], [torch.ones(1, 256, 4) / 2, found])
    alone = math.log(1 + 2 * math.exp(-1 / 0.07))
    assert both.item() == pytest.approx((math.log(256) + alone) / 2, abs=1e-5)


def test_two_patches_in_closed_form() -> None:
    """Right with cosine 0.6, wrong with 0.8; the own place counts e^{−10 / τ} more."""
    q = torch.tensor([[[1.0, 0], [0, 1.0]]])
    k = torch.tensor([[[0.6, 0.8], [0.8, 0.6]]])
    for tau in (0.07, 5.0):
        each = math.log(1 + math.exp(0.2 / tau) + math.exp(-10.6 / tau))
        assert patch_nce([q], [k], tau).item() == pytest.approx(each, rel=1e-6)


def test_patches_of_other_pictures_are_no_negatives() -> None:
    q, k = vectors(2, 6, 5), vectors(2, 6, 5)
    together = patch_nce([q], [k])
    apart = [patch_nce([q[i : i + 1]], [k[i : i + 1]]) for i in range(2)]
    assert together.item() == pytest.approx((apart[0] + apart[1]).item() / 2, rel=1e-6)


def test_gradient_by_differences_and_none_to_the_keys() -> None:
    q, k = vectors(2, 5, 4).requires_grad_(), vectors(2, 5, 4).requires_grad_()
    patch_nce([q], [k], 0.5).backward()
    assert k.grad is None
    assert q.grad is not None
    at, step = q.detach().double().numpy(), 1e-6
    for place in np.ndindex(2, 2, 4):
        up, down = at.copy(), at.copy()
        up[place] += step
        down[place] -= step
        keys = k.detach().double().numpy()
        slope = (by_loops(up, keys, 0.5) - by_loops(down, keys, 0.5)) / (2 * step)
        assert q.grad[place].item() == pytest.approx(slope, abs=1e-6)


def test_half_precision_inside_changes_nothing() -> None:
    q, k = vectors(2, 32, 16), vectors(2, 32, 16)
    exact = patch_nce([q], [k])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(patch_nce([q], [k]), exact)
