"""The loss of audio-visual correspondence: which picture belongs to which sound?

    L = ½ mean_i [−log σ(l_ii)] + ½ mean_{(i, j) ∈ N} [−log (1 − σ(l_ij))]

over logits l_ij of picture i and sound j, and the pairs N that do not belong together; both halves
weigh the same however many pairs each has. After Arandjelović and Zisserman, Look, Listen and
Learn, ICCV 2017, who draw one wrong pair for each right one.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def avc_loss(logits: Tensor, apart: Tensor) -> dict[str, Tensor]:
    """Return L, and the accuracy, of logits [B, B]; apart: bool [B, B], the wrong pairs N.

    accuracy: the mean of the shares of right pairs above 0 and of wrong ones below; .5 by chance.
    Without any wrong pair, as in a batch of one class, the second half is the constant of chance.
    """
    together = logits.diagonal()
    wrong = apart.to(logits.dtype)
    n = wrong.sum()
    none = (n == 0).to(logits.dtype)
    half = (F.softplus(logits) * wrong).sum() / n.clamp(min=1)
    half = half + none * F.softplus(logits.new_zeros(()))
    below = ((logits < 0).to(logits.dtype) * wrong).sum() / n.clamp(min=1) + none / 2
    right = (together > 0).to(logits.dtype).mean()
    return {
        "loss": (F.softplus(-together).mean() + half) / 2,
        "accuracy": (right + below) / 2,
    }
