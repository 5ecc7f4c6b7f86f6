"""How far pictures are apart, at several scales: soft at first, as coarse scales agree first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def pyramid_l1(a: Tensor, b: Tensor, factors: Sequence[int]) -> Tensor:
    """Return Σ_k mean |avg_k(a) − avg_k(b)| of pictures [B, C, H, W].

    avg_k: means over squares of k × k pixels, of the whole pictures where those are smaller.
    """
    differences = [(averaged(a, k) - averaged(b, k)).abs().mean() for k in factors]
    return sum(differences[1:], start=differences[0])


def averaged(pictures: Tensor, factor: int) -> Tensor:
    """Return means over squares of `factor` pixels, at most the whole side: [B, C, H/k, W/k]."""
    factor = min(factor, pictures.shape[-1])
    return pictures if factor == 1 else F.avg_pool2d(pictures, factor)
