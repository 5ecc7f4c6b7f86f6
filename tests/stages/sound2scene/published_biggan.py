"""A plain, functional IC-GAN forward pass over the published names, in the dtype of its input.

Written from the papers and the published layout alone: up-sampling before the shortcut's
convolution, softmax spelled out, sums by einsum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def spectral(state: State, layer: str) -> Tensor:
    """W / σ as evaluation does: one power iteration from u0, nothing stored."""
    weight = state[f"{layer}.weight"]
    matrix = weight.reshape(weight.shape[0], -1)
    v = state[f"{layer}.u0"] @ matrix
    v = v / v.norm()
    u = v @ matrix.T
    u = u / u.norm()
    return weight / (v @ matrix.T @ u.T)


def conv(state: State, layer: str, x: Tensor) -> Tensor:
    weight = spectral(state, layer)
    return F.conv2d(x, weight, state.get(f"{layer}.bias"), padding=weight.shape[-1] // 2)


def linear(state: State, layer: str, x: Tensor) -> Tensor:
    out = x @ spectral(state, layer).T
    return out + state[f"{layer}.bias"] if f"{layer}.bias" in state else out


def normalised(state: State, layer: str, x: Tensor) -> Tensor:
    inner = f"{layer}.bn.running_" if f"{layer}.bn.running_mean" in state else f"{layer}.stored_"
    mean, var = state[f"{inner}mean"], state[f"{inner}var"]
    return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()


def conditional_norm(state: State, layer: str, x: Tensor, y: Tensor) -> Tensor:
    gain = 1 + linear(state, f"{layer}.gain", y)
    bias = linear(state, f"{layer}.bias", y)
    return normalised(state, layer, x) * gain[:, :, None, None] + bias[:, :, None, None]


def attention(state: State, layer: str, x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    theta = conv(state, f"{layer}.theta", x).reshape(batch, channels // 8, -1)
    phi = F.max_pool2d(conv(state, f"{layer}.phi", x), 2).reshape(batch, channels // 8, -1)
    g = F.max_pool2d(conv(state, f"{layer}.g", x), 2).reshape(batch, channels // 2, -1)
    beta = torch.softmax(torch.einsum("bcq,bck->bqk", theta, phi), dim=-1)
    mixed = torch.einsum("bck,bqk->bcq", g, beta).reshape(batch, channels // 2, height, width)
    return x + state[f"{layer}.gamma"] * conv(state, f"{layer}.o", mixed)


def generate(state: State, z: Tensor, h: Tensor) -> Tensor:
    chunk = state["linear.weight"].shape[1]
    z0, *zs = z.split(chunk, 1)
    feature = linear(state, "shared_feat", h)
    x = linear(state, "linear", z0).reshape(len(z), -1, 4, 4)
    for n, z_n in enumerate(zs):
        y, block = torch.cat([feature, z_n], 1), f"blocks.{n}.0"
        a = F.relu(conditional_norm(state, f"{block}.bn1", x, y))
        a = conv(state, f"{block}.conv1", a.repeat_interleave(2, 2).repeat_interleave(2, 3))
        a = conv(state, f"{block}.conv2", F.relu(conditional_norm(state, f"{block}.bn2", a, y)))
        x = a + conv(state, f"{block}.conv_sc", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        if f"blocks.{n}.1.gamma" in state:
            x = attention(state, f"blocks.{n}.1", x)
    inner = "output_layer.0.bn" in {k.rpartition(".")[0] for k in state}
    scale, shift = (
        (state["output_layer.0.bn.weight"], state["output_layer.0.bn.bias"])
        if inner
        else (state["output_layer.0.gain"], state["output_layer.0.bias"])
    )
    x = normalised(state, "output_layer.0", x) * scale[:, None, None] + shift[:, None, None]
    return torch.tanh(conv(state, "output_layer.2", F.relu(x)))


def discriminate(state: State, x: Tensor, h: Tensor, halvings: int) -> Tensor:
    n = 0
    while f"blocks.{n}.0.conv1.weight" in state:
        block = f"blocks.{n}.0"
        a = x if n == 0 else F.relu(x)
        a = conv(state, f"{block}.conv2", F.relu(conv(state, f"{block}.conv1", a)))
        shortcut = conv(state, f"{block}.conv_sc", x) if f"{block}.conv_sc.weight" in state else x
        if n < halvings:
            a, shortcut = F.avg_pool2d(a, 2), F.avg_pool2d(shortcut, 2)
        x = a + shortcut
        if f"blocks.{n}.1.gamma" in state:
            x = attention(state, f"blocks.{n}.1", x)
        n += 1
    phi = F.relu(x).sum((2, 3))
    return (linear(state, "linear", phi) + (linear(state, "linear_feat", h) * phi).sum(1, True))[
        :, 0
    ]
