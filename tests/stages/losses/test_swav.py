"""SwAV's assignment and loss against closed forms, optimality conditions and loops in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional as F

from stages.losses.swav import Queue, sinkhorn_knopp, swapped_prediction
from tests.stages.losses.processes import run_in_processes


def cosines(n_samples: int, n_prototypes: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z, c = (torch.randn(n, 8, generator=generator) for n in (n_samples, n_prototypes))
    return F.normalize(z, dim=1) @ F.normalize(c, dim=1).T


def test_equal_scores_are_spread_evenly() -> None:
    torch.testing.assert_close(sinkhorn_knopp(torch.full((6, 4), 0.7)), torch.full((6, 4), 0.25))


def test_two_by_two_closed_form() -> None:
    # The symmetric case is balanced from the start: Q = sigmoid(±difference / ε).
    q = sinkhorn_knopp(torch.tensor([[0.1, 0.0], [0.0, 0.1]]), epsilon=0.05)
    own = 1 / (1 + math.exp(-0.1 / 0.05))
    torch.testing.assert_close(q, torch.tensor([[own, 1 - own], [1 - own, own]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_sum_to_one_and_columns_approach_their_share(dtype: torch.dtype) -> None:
    scores = cosines(40, 10, 0).to(dtype)
    q = sinkhorn_knopp(scores)
    assert q.dtype == dtype
    torch.testing.assert_close(q.sum(dim=1), torch.ones(40, dtype=dtype))
    errors = [
        (sinkhorn_knopp(scores, iterations=n).sum(dim=0) - 4).abs().max().item()
        for n in (1, 3, 10, 300)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


def test_the_limit_is_the_optimum_of_entropic_transport() -> None:
    # The maximiser of <Q, S> + ε H(Q) under both marginals is unique, and has the form
    # log Q = S / ε + a_i + b_k: doubly centred, log Q is S / ε.
    scores = cosines(30, 6, 1).double()
    q = sinkhorn_knopp(scores, iterations=2000)
    np.testing.assert_allclose(q.sum(dim=0), 5, atol=1e-9)

    def centred(x: Tensor) -> Tensor:
        return x - x.mean(dim=0) - x.mean(dim=1, keepdim=True) + x.mean()

    torch.testing.assert_close(centred(q.log()), centred(scores / 0.05))


def test_half_precision_scores_and_extremes_stay_finite() -> None:
    scores = torch.tensor([[1.0, -1.0], [1.0, -1.0]], dtype=torch.bfloat16)
    q = sinkhorn_knopp(scores)
    assert q.dtype == torch.float32
    torch.testing.assert_close(q, torch.full((2, 2), 0.5))


def test_uniform_prediction_costs_the_logarithm_of_the_prototypes() -> None:
    scores = torch.full((3, 5, 7), 0.2)
    assert swapped_prediction(scores).item() == pytest.approx(math.log(7), rel=1e-6)


def reference(scores: np.ndarray, queued: np.ndarray | None, n_assigned: int) -> float:
    """The loss in loops: scale exp(S / ε) three times, columns then rows."""
    n_views, n_pictures, n_prototypes = scores.shape
    terms = []
    for i in range(n_assigned):
        pool = scores[i] if queued is None else np.concatenate([scores[i], queued[i]])
        q = np.exp(pool / 0.05)
        for _ in range(3):
            for k in range(n_prototypes):
                q[:, k] /= q[:, k].sum() * n_prototypes
            for b in range(len(pool)):
                q[b] /= q[b].sum() * len(pool)
        q *= len(pool)
        for v in range(n_views):
            if v != i:
                log_p = log_softmax(scores[v] / 0.1, axis=1)
                terms.append(-np.mean([q[b] @ log_p[b] for b in range(n_pictures)]))
    return float(np.mean(terms))


@pytest.mark.parametrize("with_queue", [False, True])
def test_loss_equals_loops_in_float64(with_queue: bool) -> None:
    scores = torch.stack([cosines(9, 5, seed) for seed in range(4)])
    queued = torch.stack([cosines(20, 5, seed) for seed in (10, 11)]) if with_queue else None
    expected = reference(
        scores.double().numpy(), None if queued is None else queued.double().numpy(), 2
    )
    assert swapped_prediction(scores, queued).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_flows_through_predictions_and_not_through_assignments() -> None:
    # With one assigned view out of two, that view is the target alone.
    scores = torch.stack([cosines(6, 4, 0), cosines(6, 4, 1)]).requires_grad_()
    swapped_prediction(scores, n_assigned=1).backward()
    assert scores.grad is not None
    assert scores.grad[0].abs().max() == 0
    assert scores.grad[1].abs().max() > 0


def test_too_few_views_are_refused() -> None:
    with pytest.raises(ValueError, match="2 views or more"):
        swapped_prediction(torch.zeros(1, 4, 3), n_assigned=1)


def test_queue_keeps_the_newest_first_and_knows_when_it_is_full() -> None:
    queue = Queue(length=4, dim=1, n_assigned=2)
    assert not queue.full
    for first in (1.0, 3.0, 5.0):
        z = torch.tensor([first, first + 1]).view(1, 2, 1).repeat(3, 1, 1)
        z = z * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1)
        queue.push(z)
    assert queue.full
    assert queue.embeddings[:, :, 0].tolist() == [[5, 6, 3, 4], [50, 60, 30, 40]]
    restored = Queue(length=4, dim=1, n_assigned=2)
    restored.load_state_dict(queue.state_dict())
    assert restored.full


def assign_my_half(rank: int, world_size: int) -> dict[str, Tensor]:
    # Halves of different sizes: shares count samples, not processes.
    scores = cosines(20, 5, 7)
    return {"q": sinkhorn_knopp(scores[:8] if rank == 0 else scores[8:])}


def test_two_processes_assign_as_one(tmp_path: Path) -> None:
    ranks = run_in_processes(assign_my_half, 2, tmp_path)
    together = torch.cat([rank["q"] for rank in ranks])
    torch.testing.assert_close(together, sinkhorn_knopp(cosines(20, 5, 7)))
