"""Instance norm without weights, as fast as the layout in memory allows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def instance_norm(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return (x − mean) / √(var + eps) of each channel of each picture, [B, C, H, W]."""
    if x.device.type == "cpu" and channels_last(x) and not traced():
        # torch's own copies such a tensor to another layout and back. Over one picture, batch norm
        # is the same, and on the CPU 3 to 4 times as fast.
        each = [F.batch_norm(one, None, None, training=True, eps=eps) for one in x.chunk(len(x))]
        return torch.cat(each) if len(each) > 1 else each[0]
    return F.instance_norm(x, eps=eps)


def channels_last(x: Tensor) -> bool:
    """Return whether the channels of a pixel lie together, and could not lie otherwise too."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def traced() -> bool:
    """Return whether this call is recorded, for any number of pictures, and not computed."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()
