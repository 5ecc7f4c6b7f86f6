"""The divergence over weakly paired pictures: its equation, gradients, degenerate points, ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor
from torch.nn import functional as F

from stages.losses.weak_pairs import weak_pair_kl
from tests.stages.losses.processes import run_in_processes

Reading = Literal["rows", "diagonal"]
READINGS: tuple[Reading, ...] = ("rows", "diagonal")


def three(n: int = 6, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return sounds, texts and pictures of unit length, float64."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(3, n, dim, generator=rng, dtype=torch.float64)
    a, t, v = F.normalize(drawn, dim=2)
    return a, t, v


def rows(a: Tensor, t: Tensor, v: Tensor, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return M^t and M^a."""
    return tuple(softmax(scale * (x @ v.T).numpy(), axis=1) for x in (t, a))  # type: ignore[return-value]


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_both_readings_equal_their_equations(scale: float) -> None:
    a, t, v = three()
    m_t, m_a = rows(a, t, v, scale)
    whole = rel_entr(m_t, m_a).sum(axis=1).mean()
    assert weak_pair_kl(a, t, v, scale).item() == pytest.approx(whole, rel=1e-10)
    diagonal = (np.diag(m_t) * np.log(np.diag(m_t) / np.diag(m_a))).mean()
    found = weak_pair_kl(a, t, v, scale, reading="diagonal")
    assert found.item() == pytest.approx(diagonal, rel=1e-9)


def test_lengths_do_not_count() -> None:
    a, t, v = three()
    expected = weak_pair_kl(a, t, v, 10.0)
    torch.testing.assert_close(weak_pair_kl(3 * a, 0.2 * t, 7 * v, 10.0), expected)
    torch.testing.assert_close(
        weak_pair_kl(a.float(), t.float(), v.float(), 10.0).double(), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("reading", READINGS)
def test_gradient_is_that_of_differences(reading: Reading) -> None:
    a, t, v = three()
    assert torch.autograd.gradcheck(
        lambda x: weak_pair_kl(x, t, v, 8.0, reading=reading), (3 * a).requires_grad_()
    )


def test_gradient_of_the_cosines_in_closed_form() -> None:
    """∂L/∂a_i = s/N Σ_j (M^a_ij − M^t_ij) v'_j, but for what lies along a_i."""
    a, t, v = three()
    a.requires_grad_()
    weak_pair_kl(a, t, v, 8.0).backward()
    m_t, m_a = rows(a.detach(), t, v, 8.0)
    free = torch.tensor(8.0 / len(a) * (m_a - m_t)) @ v
    along = (free * a).sum(dim=1, keepdim=True) * a
    torch.testing.assert_close(a.grad, (free - along).detach())


def test_the_teacher_pictures_and_scale_learn_nothing() -> None:
    a, t, v = (x.requires_grad_() for x in three())
    scale = torch.tensor(8.0, dtype=torch.float64, requires_grad=True)
    weak_pair_kl(a, t, v, scale).backward()
    assert a.grad is not None
    assert (t.grad, v.grad, scale.grad) == (None, None, None)


def test_equal_rows_are_the_least_of_the_divergence_and_not_of_its_literal_reading() -> None:
    _, t, v = three()
    for reading in READINGS:
        a = t.clone().requires_grad_()
        loss = weak_pair_kl(a, t, v, 14.0, reading=reading)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-12)
        assert a.grad is not None
        assert a.grad.isfinite().all()
        assert (a.grad.abs().max() < 1e-10) == (reading == "rows")
    # A sound that is the picture itself, whatever the text says, is below 0.
    assert weak_pair_kl(v, t, v, 8.0, reading="diagonal").item() < -1e-3
    assert weak_pair_kl(v, t, v, 8.0).item() > 0


def test_one_clip_and_zeros_are_no_trouble() -> None:
    a, t, v = three(n=1)
    a.requires_grad_()
    loss = weak_pair_kl(a, t, v, 14.0)
    loss.backward()
    assert loss.item() == 0
    assert a.grad is not None
    assert not a.grad.any()
    nothing = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    loss = weak_pair_kl(nothing, *three(n=4)[1:], 14.0)
    loss.backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()


def shared_step(rank: int, world_size: int) -> dict[str, Tensor]:
    """Take this rank's share of 12 clips; return loss and gradient of one layer, as DDP has it."""
    a, t, v = (x.float() for x in three(n=12, seed=4))
    mine = slice(rank * 12 // world_size, (rank + 1) * 12 // world_size)
    layer = torch.eye(5, requires_grad=True)
    found = {}
    for reading in READINGS:
        loss = weak_pair_kl(a[mine] @ layer, t[mine], v[mine], 9.0, reading=reading)
        (gradient,) = torch.autograd.grad(loss, layer)
        found |= {f"{reading} loss": loss.detach(), f"{reading} gradient": gradient}
    return found


def test_two_processes_equal_one(tmp_path: Path) -> None:
    alone = shared_step(0, 1)
    ranks = run_in_processes(shared_step, 2, tmp_path)
    for name, expected in alone.items():
        mean = (ranks[0][name] + ranks[1][name]) / 2
        torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
