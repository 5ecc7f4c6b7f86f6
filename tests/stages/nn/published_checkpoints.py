"""Checkpoints in the layouts that others publish, made with torchvision's own networks.

torchvision is an independent implementation: what a layout's reader makes of its state dict must
compute what it computes.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@cache
def torchvision_models() -> Any:
    """Import torchvision's networks; the compiled operators it declares may be absent."""
    with suppress(RuntimeError):  # they are there, or declared already
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return pytest.importorskip("torchvision.models")


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics, weights and biases as training leaves them; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor in (part.running_mean, part.bias):
                assert tensor is not None
                tensor.data.normal_(0, 0.1, generator=generator)
            for tensor in (part.running_var, part.weight):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def reference_resnet(name: str, in_channels: int = 3, out_dim: int = 1000) -> nn.Module:
    """Return torchvision's network of this name with another stem and head."""
    model = getattr(torchvision_models(), name)(weights=None, num_classes=out_dim)
    if in_channels != 3:
        model.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    return randomised(model)


def sound2scene_checkpoint(reference: nn.Module) -> dict[str, Tensor]:
    """`audnet.` before every name, as Sound2Scene's training code saves it."""
    return {f"audnet.{name}": value for name, value in reference.state_dict().items()}


def swav_checkpoint(reference: nn.Module, embed_dim: int = 128) -> dict[str, Tensor]:
    """`module.` before every name, no `fc`, a projection head and prototypes instead."""
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.02

    state = {n: v for n, v in reference.state_dict().items() if not n.startswith("fc.")}
    state |= {
        "projection_head.0.weight": drawn(2048, 2048),
        "projection_head.0.bias": drawn(2048),
        "projection_head.1.weight": 1 + drawn(2048),
        "projection_head.1.bias": drawn(2048),
        "projection_head.1.running_mean": drawn(2048),
        "projection_head.1.running_var": 1 + drawn(2048).abs(),
        "projection_head.1.num_batches_tracked": torch.tensor(7),
        "projection_head.3.weight": drawn(embed_dim, 2048),
        "projection_head.3.bias": drawn(embed_dim),
        "prototypes.weight": drawn(3000, embed_dim),
    }
    return {f"module.{name}": value for name, value in state.items()}
