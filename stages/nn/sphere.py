"""Between unit-norm features: every path stays on the sphere, as the generator expects.

Both paths run along the same great circle and meet at both ends and in the middle. `lerp`, the
straight line scaled back to unit norm, is what a weighted mean of features gives; `slerp` moves by
the same angle in every step, so a film of it changes evenly.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Way = Literal["lerp", "slerp"]


def unit_norm(h: Tensor) -> Tensor:
    """Return features [..., D] scaled to unit length, as the generator expects them."""
    return F.normalize(h, dim=-1)


def interpolated(a: Tensor, b: Tensor, t: float, way: Way = "lerp") -> Tensor:
    """Return the unit-norm feature [D] the share t of the way from a to b, both [D] of unit norm.

    lerp: ((1 - t) a + t b) / ‖·‖.
    slerp: (sin((1 - t) θ) a + sin(t θ) b) / sin θ, cos θ = ⟨a, b⟩ (Shoemake, SIGGRAPH 1985).
    At t = 0 and 1 it is a or b to the bit. Raises ValueError for t outside [0, 1] and for opposite
    features, between which every path is as short.
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t must be from 0 to 1, got {t}")
    if t in (0, 1):
        return b if t else a
    angle = angle_rad(a, b)
    if torch.pi - angle < 1e-4:
        raise ValueError("the two features point in opposite directions: no path is the shortest")
    if way == "lerp" or angle < 1e-4:
        return unit_norm((1 - t) * a + t * b)
    theta = torch.tensor(angle, dtype=torch.float64)
    weight_a, weight_b = torch.sin((1 - t) * theta), torch.sin(t * theta)
    return unit_norm(float(weight_a) * a + float(weight_b) * b)


def angle_rad(a: Tensor, b: Tensor) -> float:
    """Return the angle between two features [D], in [0, π], exact for small ones too.

    2 atan2(‖a − b‖, ‖a + b‖) of unit vectors (Kahan).
    """
    u, v = unit_norm(a.double()), unit_norm(b.double())
    return float(2 * torch.atan2((u - v).norm(), (u + v).norm()))
