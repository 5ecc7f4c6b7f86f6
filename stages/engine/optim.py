"""Optimisers, and learning rates as pure functions of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def adamw(
    module: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); biases and norms, all of fewer than two dimensions, decay
    not at all."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas)


def adam(
    module: nn.Module,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015); weight decay is L2 in the gradient, on all parameters."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.Adam(trained, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def warmup_cosine(
    step: int, total_steps: int, peak: float, *, warmup: int = 0, final: float = 0.0
) -> float:
    """Return the learning rate of update `step`, from 1 to `total_steps`.

    It rises linearly to `peak` at update `warmup`; then final + (peak - final) (1 + cos(pi t)) / 2,
    where t goes from 0 at the next update to 1 after the last (Loshchilov & Hutter 2017).
    """
    if step <= warmup:
        return peak * step / warmup
    t = min(1.0, (step - 1 - warmup) / max(1, total_steps - warmup))
    return final + (peak - final) * (1 + math.cos(math.pi * t)) / 2


def cosine_restarts(step: int, period: float, peak: float, *, final: float = 0.0) -> float:
    """Return the learning rate of update `step`, from 1, that starts over every `period` updates.

    final + (peak - final) (1 + cos(pi t)) / 2, where t, the share of its period that lies before an
    update, goes from 0 to nearly 1 (SGDR, Loshchilov & Hutter 2017, with periods of one length).
    """
    t = ((step - 1) % period) / period
    return final + (peak - final) * (1 + math.cos(math.pi * t)) / 2


def linear_decay(
    step: int, total_steps: int, peak: float, *, parts: int, decay_parts: int, to_zero: bool = False
) -> float:
    """Return the learning rate of update `step`, from 1 to `total_steps` (as CycleGAN's code).

    The updates fall into `parts` equal parts, epochs as a rule. In part e = 1, 2 … it is
    peak (1 - max(0, e - c) / (d + 1)), c = parts - d, d = decay_parts: constant, then falling from
    part to part, to peak / (d + 1) in the last. to_zero: falling from update to update instead, as
    e - c of a real e does, over d, to 0 in the last one.
    """
    constant = parts - decay_parts
    if to_zero:
        return peak * (1 - max(0.0, step * parts / total_steps - constant) / max(1, decay_parts))
    part = 1 + (step - 1) * parts // total_steps
    return peak * (1 - max(0, part - constant) / (decay_parts + 1))


def ramped(step: int, total_steps: int, peak: float, *, up: float, down: float) -> float:
    """Return the learning rate of update `step`, from 1 to `total_steps`, of a search for a latent.

        t = (step - 1/2) / total_steps
        peak min(1, t / up) (1 - cos(pi min(1, (1 - t) / down))) / 2

    A straight way up in the share `up` of the steps, half a cosine down in the last `down` (Karras
    et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020). In the middle of its
    step, as at either end of it one update would move nothing.
    """
    t = (step - 0.5) / total_steps
    rise = min(1.0, t / up) if up else 1.0
    fall = min(1.0, (1 - t) / down) if down else 1.0
    return peak * rise * (1 - math.cos(math.pi * fall)) / 2
