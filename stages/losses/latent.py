"""The plain distance between a sound's feature and its picture's: the ablation L2."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def l2(z_A: Tensor, z_V: Tensor, kind: Literal["mse", "norm"] = "mse") -> Tensor:
    """Return the mean distance of paired raw features [N, D].

    mse: mean over pairs and dimensions of (z^A − z^V)²; norm: mean over pairs of ‖z^A − z^V‖₂.
    """
    if kind == "mse":
        return F.mse_loss(z_A, z_V)
    if kind == "norm":
        distances: Tensor = torch.linalg.vector_norm(z_A - z_V, dim=1)  # [N]
        return distances.mean()
    raise ValueError(f"kind must be mse or norm, got {kind!r}")
