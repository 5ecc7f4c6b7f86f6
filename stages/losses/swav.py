"""SwAV: predict the cluster of one view of a picture from another.

    Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments,
    NeurIPS 2020; the assignment after Cuturi, Sinkhorn Distances, NeurIPS 2013.

Under torch.distributed the assignment is balanced over the batches of all processes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def sinkhorn_knopp(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Return the soft assignment Q [B, K] of B samples to K prototypes, in equal shares.

        max_Q ⟨Q, scores⟩ + ε H(Q),  Q 1 = 1,  Qᵀ 1 = B / K

    by alternate scaling of columns and rows of exp(scores / ε). Rows sum to 1 exactly, columns to
    B / K (over all processes) as iterations grow.
    """
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    # A factor common to all entries cancels; this one keeps the exponential within range.
    Q = torch.exp((scores - _reduced(scores.max(), maximum=True)) / epsilon)
    n_samples = _reduced(torch.tensor(float(len(Q)), dtype=Q.dtype, device=Q.device))
    for _ in range(iterations):
        Q = Q * (n_samples / Q.shape[1] / _reduced(Q.sum(dim=0)))  # columns
        Q = Q / Q.sum(dim=1, keepdim=True)  # rows
    return Q


def swapped_prediction(
    scores: Tensor,
    queued_scores: Tensor | None = None,
    *,
    n_assigned: int = 2,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> Tensor:
    """Return the mean over assigned views i and other views v ≠ i of −Σ_k q_i log p_v.

        p_v = softmax(scores_v / temperature),  q_i = sinkhorn_knopp(scores_i)

    scores: of V views of B pictures against K prototypes, [V, B, K], cosines; the first n_assigned
    views, the large crops, are assigned, and all are predicted.
    queued_scores: of earlier embeddings against today's prototypes, [n_assigned, L, K]; they take
    part in the assignment alone, which needs many more samples than prototypes.
    """
    n_views, n_pictures, _ = scores.shape
    if not 1 <= n_assigned <= n_views or n_views < 2:
        raise ValueError(f"need 2 views or more and n_assigned among them, got {n_views} views")
    log_p = F.log_softmax(scores / temperature, dim=2)
    total = scores.new_zeros(())
    for i in range(n_assigned):
        to_assign = scores[i].detach()
        if queued_scores is not None:
            to_assign = torch.cat([queued_scores[i].detach(), to_assign])
        q = sinkhorn_knopp(to_assign, epsilon, iterations)[-n_pictures:]  # [B, K]
        cross_entropy = -(q * log_p).sum(dim=2).mean(dim=1)  # [V]
        total = total + (cross_entropy.sum() - cross_entropy[i]) / (n_views - 1)
    return total / n_assigned


class Queue(nn.Module):
    """The last `length` embeddings of each assigned view, newest first; part of checkpoints.

    Each process keeps its own.
    """

    embeddings: Tensor  # [n_assigned, length, D]
    n_filled: Tensor  # []

    def __init__(self, length: int, dim: int, n_assigned: int = 2) -> None:
        super().__init__()
        self.register_buffer("embeddings", torch.zeros(n_assigned, length, dim))
        self.register_buffer("n_filled", torch.zeros((), dtype=torch.int64))

    @property
    def full(self) -> bool:
        """Tell whether it holds `length` embeddings: only then is it of use."""
        return int(self.n_filled) == self.embeddings.shape[1]

    @torch.no_grad()
    def push(self, z: Tensor) -> None:
        """Take in the embeddings [V, B, D] of a batch; views beyond the assigned are left out."""
        n_assigned, length, _ = self.embeddings.shape
        new = z[:n_assigned].to(self.embeddings.dtype)
        self.embeddings.copy_(torch.cat([new, self.embeddings], dim=1)[:, :length])
        self.n_filled.add_(new.shape[1]).clamp_(max=length)


def _reduced(value: Tensor, maximum: bool = False) -> Tensor:
    """Return the sum, or maximum, of a tensor over all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    operation = torch.distributed.ReduceOp.MAX if maximum else torch.distributed.ReduceOp.SUM
    torch.distributed.all_reduce(total, operation)
    return total
