"""The contrastive losses against closed forms, float64, and one process with all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stages.losses.info_nce import (
    LearnedScale,
    cosine_info_nce,
    euclidean_info_nce,
    label_info_nce,
    sharing,
)
from tests.stages.losses.processes import run_in_processes

Loss = Callable[[Tensor, Tensor], Tensor]


def features(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", [euclidean_info_nce, cosine_info_nce])
def test_equal_logits_give_chance(loss: Loss) -> None:
    same = torch.ones(64, 16)
    assert loss(same, same).item() == pytest.approx(math.log(64), abs=1e-6)
    # Chance also where every sound is as far from every picture: orthogonal planes.
    z_A, z_V = torch.zeros(64, 4), torch.zeros(64, 4)
    z_A[:, 0], z_V[:, 1] = 1, 1
    assert loss(z_A, z_V).item() == pytest.approx(4.1589, abs=1e-4)


def test_the_best_of_64_orthogonal_pairs() -> None:
    z = torch.eye(64)
    assert euclidean_info_nce(z, z).item() == pytest.approx(2.792, abs=5e-4)
    assert cosine_info_nce(z, z).item() == pytest.approx(math.log(1 + 63 / math.e), abs=1e-6)


def test_euclidean_equals_its_equation_in_float64() -> None:
    z_A, z_V = features(12, 7, 0), features(12, 7, 1)
    a, v = (np.asarray(z, np.float64) for z in (z_A, z_V))
    a, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, v))
    d = cdist(a, v)
    forward = np.diag(d) + logsumexp(-d, axis=1)
    backward = np.diag(d) + logsumexp(-d, axis=0)
    expected = (forward.mean() + backward.mean()) / 2
    assert euclidean_info_nce(z_A, z_V).item() == pytest.approx(expected, rel=1e-6)


def test_cosine_equals_its_equation_in_float64() -> None:
    z_A, z_V = features(12, 7, 2), features(12, 7, 3)
    a, v = (np.asarray(z, np.float64) for z in (z_A, z_V))
    cosine = 1 - cdist(a, v, "cosine")
    for scale in (1.0, 14.3):
        forward = logsumexp(scale * cosine, axis=1) - scale * np.diag(cosine)
        backward = logsumexp(scale * cosine, axis=0) - scale * np.diag(cosine)
        expected = (forward.mean() + backward.mean()) / 2
        assert cosine_info_nce(z_A, z_V, scale).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [euclidean_info_nce, cosine_info_nce])
def test_lengths_of_features_do_not_count_but_sides_do_not_differ(loss: Loss) -> None:
    z_A, z_V = features(6, 5, 4), features(6, 5, 5)
    stretched = z_A * torch.linspace(0.1, 9, 6)[:, None]
    torch.testing.assert_close(loss(stretched, z_V), loss(z_A, z_V))
    torch.testing.assert_close(loss(z_V, z_A), loss(z_A, z_V))


@pytest.mark.parametrize("loss", [euclidean_info_nce, cosine_info_nce])
def test_autocast_does_not_round_the_logits(loss: Loss) -> None:
    z_A, z_V = features(16, 32, 11), features(16, 32, 12)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(z_A, z_V)
    torch.testing.assert_close(inside, loss(z_A, z_V))


def test_gradient_is_finite_and_right_where_pairs_coincide() -> None:
    z_A, z_V = features(4, 6, 6).requires_grad_(), features(4, 6, 7)
    matched = z_V.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(euclidean_info_nce(matched, z_V), matched)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    # Against differences: the slope along a random direction.
    loss = euclidean_info_nce(z_A, z_V)
    (gradient,) = torch.autograd.grad(loss, z_A)
    direction = features(4, 6, 8)
    step = 1e-2
    with torch.no_grad():
        ahead, behind = (euclidean_info_nce(z_A + s * direction, z_V) for s in (step, -step))
    slope = (ahead - behind) / (2 * step)
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), abs=2e-4)


def test_small_distances_are_not_rounded_away() -> None:
    # Unit vectors 1e-4 apart: 2 - 2 cos is 1e-8, below float32's resolution at 1.
    z_V = torch.eye(64, 256)
    z_A = z_V.clone()
    z_A[:, 255] = 1e-4
    expected = 1e-4 + math.log(math.exp(-1e-4) + 63 * math.exp(-math.sqrt(2)))
    assert euclidean_info_nce(z_A, z_V).item() == pytest.approx(expected, abs=2e-6)


def test_learned_scale_starts_at_a_temperature_of_7_percent_and_stays_in_range() -> None:
    scale = LearnedScale()
    assert scale().item() == pytest.approx(1 / 0.07, rel=1e-6)
    loss = cosine_info_nce(features(8, 4, 9), features(8, 4, 10), scale())
    loss.backward()
    assert scale.log_scale.grad is not None
    assert scale.log_scale.grad.abs() > 0
    for value, kept in ((9.0, 100), (-3.0, 1)):
        scale.log_scale.data.fill_(value)
        assert scale().item() == pytest.approx(kept, rel=1e-5)
    # At a bound there is a way back: orthogonal pairs want a lower scale than 100.
    scale.log_scale.data.fill_(9.0)
    step = torch.optim.SGD(scale.parameters(), lr=1e-3)
    step.zero_grad()
    cosine_info_nce(torch.eye(4), torch.eye(4).roll(1, 0), scale()).backward()
    step.step()
    assert 1 < scale().item() < 99.99


def test_pairs_of_one_label_are_right_together() -> None:
    """Against both cross-entropies in float64, and the gradient against differences."""
    z_A, z_V = features(6, 5, 12), features(6, 5, 13)
    labels = torch.tensor([2, 0, 2, -1, 0, 5])
    kept = [0, 1, 2, 4, 5]
    a, v = (np.asarray(z, np.float64)[kept] for z in (z_A, z_V))
    logits = 7.0 * (1 - cdist(a, v, "cosine"))
    right = np.equal.outer([2, 0, 2, 0, 5], [2, 0, 2, 0, 5])
    shares = right / right.sum(axis=1, keepdims=True)
    sides = [
        -(shares * (own - logsumexp(own, axis=1, keepdims=True))) for own in (logits, logits.T)
    ]
    expected = sum(side.sum(axis=1).mean() for side in sides) / 2
    assert label_info_nce(z_A, z_V, labels, 7.0).item() == pytest.approx(expected, rel=1e-5)

    moved = z_A.clone().requires_grad_()
    label_info_nce(moved, z_V, labels, 7.0).backward()
    assert moved.grad is not None
    assert not moved.grad[3].any()  # what has no label learns nothing
    direction, step = features(6, 5, 14), 1e-2
    with torch.no_grad():
        ahead, behind = (
            label_info_nce(z_A + s * direction, z_V, labels, 7.0) for s in (step, -step)
        )
    slope = (ahead - behind).item() / (2 * step)
    assert slope == pytest.approx((moved.grad * direction).sum().item(), abs=2e-3)


def test_labels_that_all_differ_change_nothing_and_none_at_all_teach_nothing() -> None:
    z_A, z_V = features(6, 5, 15).requires_grad_(), features(6, 5, 16)
    torch.testing.assert_close(
        label_info_nce(z_A, z_V, torch.arange(6), 3.0), cosine_info_nce(z_A, z_V, 3.0)
    )
    nothing = label_info_nce(z_A, z_V, torch.full((6,), -1), 3.0)
    nothing.backward()
    assert nothing.item() == 0
    assert z_A.grad is not None
    assert not z_A.grad.any()


# pairs that show one thing


def test_alike_pairs_are_no_negatives_in_float64() -> None:
    z_A, z_V = features(7, 5, 13).double(), features(7, 5, 14).double()
    kinds = [0, 1, 0, 2, 1, 0, 3]
    labels = torch.eye(4)[kinds]
    a, v = (z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True) for z in (z_A, z_V))
    logits = 5.0 * a @ v.T
    total = 0.0
    for i, kind in enumerate(kinds):
        others = [j for j, other in enumerate(kinds) if other != kind] + [i]
        total += logsumexp(logits[i, others]) - logits[i, i]
        total += logsumexp(logits[others, i]) - logits[i, i]
    found = cosine_info_nce(z_A, z_V, 5.0, sharing(labels))
    assert found.item() == pytest.approx(total / 14, rel=1e-12)


def test_labels_are_shared_by_any_in_common() -> None:
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert sharing(labels).int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]
    assert torch.equal(sharing(torch.eye(5)), torch.eye(5, dtype=torch.bool))


def test_a_batch_of_one_kind_has_no_negatives() -> None:
    z_A, z_V = features(4, 3, 15).requires_grad_(), features(4, 3, 16)
    loss = cosine_info_nce(z_A, z_V, 14.0, sharing(torch.ones(4, 1)))
    loss.backward()
    assert loss.item() == 0
    assert z_A.grad is not None
    assert not z_A.grad.any()


def test_gradients_with_and_without_alike_pairs_are_differences() -> None:
    z_A, z_V = features(5, 4, 17).double(), features(5, 4, 18).double()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    for alike in (None, sharing(torch.eye(3)[[0, 1, 0, 2, 2]])):
        assert torch.autograd.gradcheck(
            lambda a, v, s, alike=alike: cosine_info_nce(a, v, s, alike),
            (z_A.clone().requires_grad_(), z_V.clone().requires_grad_(), scale),
        )


# several processes

N_PAIRS, DIM = 12, 10


def encoder() -> nn.Module:
    layer = nn.Linear(DIM, 6)
    with torch.no_grad():
        layer.weight.copy_(features(6, DIM, 20))
        layer.bias.copy_(features(1, 6, 21)[0])
    return layer


def by_label(z_A: Tensor, z_V: Tensor) -> Tensor:
    """Labels that repeat within and across processes; the second lacks more of them."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else None
    labels = torch.tensor([0, 1, 2, 0, -1, 1, 2, -1, -1, 3, 0, 3])
    first = 0 if rank is None else rank * len(z_A)
    return label_info_nce(z_A, z_V, labels[first : first + len(z_A)], 5.0)


def train_step(rank: int, world_size: int) -> dict[str, Tensor]:
    """Take this rank's share of the pairs and return losses and gradients of all losses."""
    mine = slice(rank * N_PAIRS // world_size, (rank + 1) * N_PAIRS // world_size)
    heard, seen = features(N_PAIRS, DIM, 22)[mine], features(N_PAIRS, DIM, 23)[mine]
    found = {}
    kinds = torch.eye(3)[torch.arange(N_PAIRS) % 3][mine]

    def masked(z_A: Tensor, z_V: Tensor) -> Tensor:
        return cosine_info_nce(z_A, z_V, 4.0, sharing(kinds))

    for loss in (euclidean_info_nce, cosine_info_nce, by_label, masked):
        model = encoder()
        if world_size > 1:
            model = DistributedDataParallel(model)
        # The same layer encodes both sides, so that both gathers carry gradients.
        both = model(torch.cat([heard, seen]))
        value = loss(*both.chunk(2))
        value.backward()
        found[f"{loss.__name__} loss"] = value.detach()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            found[f"{loss.__name__} {name.removeprefix('module.')}"] = parameter.grad
    return found


def test_two_processes_equal_one_with_all_pairs(tmp_path: Path) -> None:
    alone = train_step(0, 1)
    ranks = run_in_processes(train_step, 2, tmp_path)
    for name, expected in alone.items():
        if name.endswith("loss"):
            torch.testing.assert_close((ranks[0][name] + ranks[1][name]) / 2, expected)
        else:
            for rank in ranks:
                torch.testing.assert_close(rank[name], expected, rtol=1e-5, atol=1e-6)
    assert alone["euclidean_info_nce weight"].abs().max() > 1e-3
