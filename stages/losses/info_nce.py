"""Contrastive losses between paired sound and sight, over the whole batch of all processes.

    d_ij = ‖z_i^A − z_j^V‖₂                                              (Eq. 1)
    L_total = ½ mean_i [−log(e^{−d_ii} / Σ_j e^{−d_ij})]
            + ½ mean_i [−log(e^{−d_ii} / Σ_j e^{−d_ji})]                 (Eq. 2)

with z of unit length, from Sung-Bin et al., Sound to Visual Scene Generation by Audio-to-Visual
Latent Alignment, CVPR 2023. The distance is not squared and has no temperature, so the loss of N
pairs lies between log(1 + (N − 1) e^{−√2}) for orthogonal pairs that match and ln N by chance:
2.792 and 4.159 for N = 64.

Under torch.distributed each process passes its own pairs, as many on each, and contrasts them with
everyone's. The mean over processes of the losses, and of the gradients as DDP takes it, is that of
one process with all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.nn import functional as collective
from torch.nn import functional as F

FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0  # of cosines, by which logits are made


def euclidean_info_nce(z_A: Tensor, z_V: Tensor) -> Tensor:
    """Return L_total of paired features [N, D], Eq. 1–2; each is made unit length here."""
    z_A, z_V = unit_length(z_A), unit_length(z_V)
    return _symmetric(-_distances(z_A, gathered(z_V)), -_distances(z_V, gathered(z_A)))


def cosine_info_nce(
    z_A: Tensor, z_V: Tensor, scale: float | Tensor = 1.0, alike: Tensor | None = None
) -> Tensor:
    """Return the same with logits `scale` · cos(z_i^A, z_j^V): the ablation L_nce has scale 1.

    scale: 1 / temperature; `LearnedScale` learns it. Features are paired, [N, D]. alike: bool
    [N, N of all processes], symmetric: pairs that show one thing, so that neither is the other's
    negative, as `sharing` finds them; the sums run over the others and the pair itself.
    """
    z_A, z_V = unit_length(z_A), unit_length(z_V)
    # Half precision would round the cosines to steps of 0.004, times the scale.
    with torch.autocast(z_A.device.type, enabled=False):
        return _symmetric(scale * z_A @ gathered(z_V).T, scale * z_V @ gathered(z_A).T, alike)


def sharing(labels: Tensor) -> Tensor:
    """Return bool [N, N of all processes]: which pairs have a label in common.

    labels: [N, L], above 0 for the labels that a pair has. A pair is alike itself, with or without.
    """
    alike = (labels.float() @ gathered(labels.float()).T) > 0
    return alike | own_pairs(*alike.shape, device=labels.device)


def own_pairs(n: int, n_all: int, *, device: torch.device) -> Tensor:
    """Return bool [n, n_all], true where a row of this process meets itself among all."""
    rows = torch.arange(n, device=device) + _first(n)
    return rows[:, None] == torch.arange(n_all, device=device)


def label_info_nce(z_A: Tensor, z_V: Tensor, labels: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Return the same where all pairs of one label are right, in equal shares.

        P_ij = [y_i = y_j] / Σ_k [y_i = y_k],  L = ½ mean_i CE(P_i, l_i) + ½ mean_i CE(P_i, l'_i)

    as in Yang et al., Unified Contrastive Learning in Image-Text-Label Space, CVPR 2022. labels:
    int64 [N]; pairs whose label is negative are left out.
    """
    z_A, z_V = unit_length(z_A), unit_length(z_V)
    everyone = _gathered_labels(labels)
    right = (labels[:, None] == everyone) & (everyone >= 0)  # [N, M]
    shares = right / right.sum(dim=1, keepdim=True).clamp(min=1)
    with torch.autocast(z_A.device.type, enabled=False):
        both = [scale * z_A @ gathered(z_V).T, scale * z_V @ gathered(z_A).T]
    lowest = torch.finfo(torch.float32).min  # -inf would make a batch without a label NaN
    losses = [
        F.cross_entropy(logits.masked_fill(everyone < 0, lowest), shares, reduction="none")
        for logits in both
    ]
    # The mean over processes is that over all labelled pairs, however they are divided.
    counted = (everyone >= 0).sum().clamp(min=1) / _world_size()
    return (losses[0] + losses[1])[labels >= 0].sum() / (2 * counted)


class LearnedScale(nn.Module):
    """A learned scale of logits, kept in [1, 100], that starts at 1 / 0.07.

    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021.
    """

    def __init__(self, initial: float = FIRST_SCALE) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Tensor:
        return scale_of(self.log_scale)


def scale_of(log_scale: Tensor) -> Tensor:
    """Return e^s of a learned s, which is itself brought into [0, ln 100] first, as CLIP's is.

    Were it cut off on the way alone, one beyond a bound would have no gradient and stay there.
    """
    with torch.no_grad():
        log_scale.clamp_(0, math.log(LARGEST_SCALE))
    return log_scale.exp()


# Backpropagates to every process; torch does not annotate it.
_all_gather: Callable[[Tensor], tuple[Tensor, ...]] = collective.all_gather


def gathered(z: Tensor) -> Tensor:
    """Return the features of all processes, in the order of their ranks, with their gradients."""
    if _world_size() == 1:
        return z
    return torch.cat(_all_gather(z))


def _gathered_labels(labels: Tensor) -> Tensor:
    if _world_size() == 1:
        return labels
    found = [torch.empty_like(labels) for _ in range(_world_size())]
    torch.distributed.all_gather(found, labels.contiguous())
    return torch.cat(found)


def unit_length(z: Tensor) -> Tensor:
    """Return features [N, D] of unit length, at least in single precision."""
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a_i − b_j‖₂ [N, M]; by differences, since 2 − 2 cos loses small distances."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _symmetric(logits_A: Tensor, logits_V: Tensor, alike: Tensor | None = None) -> Tensor:
    """Return the mean of both cross-entropies; row i's own pair stands at rank · N + i."""
    own = torch.arange(len(logits_A), device=logits_A.device) + _first(len(logits_A))
    if alike is not None:
        left_out = alike & ~own_pairs(*alike.shape, device=alike.device)
        logits_A = logits_A.masked_fill(left_out, -math.inf)
        logits_V = logits_V.masked_fill(left_out, -math.inf)
    return (F.cross_entropy(logits_A, own) + F.cross_entropy(logits_V, own)) / 2


def _first(n_local: int) -> int:
    """Return where this process's pairs begin among those of all."""
    return torch.distributed.get_rank() * n_local if _world_size() > 1 else 0


def _world_size() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1
