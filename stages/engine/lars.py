"""LARS: SGD for large batches, with a rate of its own for every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman & Ginsburg, 2017), as SwAV applies it.

        d = g + λ w;   v ← m v + η ‖w‖ / (‖g‖ + λ ‖w‖) d;   w ← w − lr v

    for every tensor w with gradient g, biases and norms included; where ‖w‖ or ‖g‖ is 0 the factor
    η ‖w‖ / … is 1. λ: weight_decay, m: momentum, η: trust.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        trust: float = 1e-3,
    ) -> None:
        if lr < 0 or weight_decay < 0 or trust <= 0 or not 0 <= momentum < 1:
            raise ValueError(
                "need lr and weight_decay of 0 or more, trust above 0 and momentum in [0, 1), got "
                f"{lr}, {weight_decay}, {trust} and {momentum}"
            )
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "trust": trust}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, w.grad, group)
        return loss

    def _update(self, w: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        w_norm, g_norm = w.norm(), g.norm()
        # torch.where, not if: a comparison would make the host wait for the device.
        factor = group["trust"] * w_norm / (g_norm + decay * w_norm).clamp(min=1e-30)
        factor = torch.where((w_norm > 0) & (g_norm > 0), factor, 1.0)
        state = self.state[w]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(w)
        velocity = state["momentum"]
        velocity.mul_(group["momentum"]).add_(factor * g.add(w, alpha=decay))
        w.sub_(velocity, alpha=group["lr"])
