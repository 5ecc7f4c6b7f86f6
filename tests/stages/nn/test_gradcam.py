"""Grad-CAM of networks small enough to be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.nn.gradcam import cosine_to, grad_cam, own_length


class Linear(nn.Module):
    """1×1 convolution → mean over the map → linear: [B, 1, H, W] → [B, D]."""

    def __init__(self, kernels: list[float], head: list[list[float]]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, len(kernels), 1, bias=False)
        self.head = nn.Linear(len(kernels), len(head), bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(kernels).view(-1, 1, 1, 1))
            self.head.weight.copy_(torch.tensor(head))

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(self.conv(x).mean(dim=(2, 3)))
        return z


X = torch.tensor([[[[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]]]])


def test_a_linear_score() -> None:
    network = Linear([2.0, -1.0], [[3.0, 5.0]])
    heat = grad_cam(network, network.conv, X, lambda z: z[:, 0])
    # α_c = head_c / HW; Σ α_c A_c = (3 · 2 − 5 · 1) x / 6
    torch.testing.assert_close(heat, (X[:, 0] / 6).clamp(min=0))
    assert all(p.grad is None for p in network.parameters())


def test_cosine_to_a_target() -> None:
    network = Linear([1.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
    target = torch.tensor([1.0, 0.0])
    heat = grad_cam(network, network.conv, X, cosine_to(target))
    # z = m (1, 2), m = mean x > 0: ∂cos/∂z = (e_1 − cos · ẑ) / |z|, cos = 1 / √5
    m, root = float(X.mean()), 5**0.5
    alpha = torch.tensor([1 - 1 / 5, -2 / 5]) / (m * root) / 6
    expected = (X[:, 0] * (alpha[0] + 2 * alpha[1])).clamp(min=0)
    torch.testing.assert_close(heat, expected, atol=1e-6, rtol=1e-5)


def test_own_length_has_a_slope_where_the_cosine_to_itself_has_none() -> None:
    network = Linear([1.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
    own = network(X).detach()
    assert grad_cam(network, network.conv, X, cosine_to(own)).abs().max() < 1e-6
    # ∂|z|/∂z = ẑ = (1, 2) / √5; Σ α_c A_c = (1 + 4) x / √5 / 6
    heat = grad_cam(network, network.conv, X, own_length)
    torch.testing.assert_close(heat, (X[:, 0] * 5**0.5 / 6).clamp(min=0))


def test_a_coarse_map_is_brought_to_the_input_and_clips_do_not_mix() -> None:
    network = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 1, bias=False))
    nn.init.ones_(network[2].weight)
    x = torch.zeros(2, 1, 4, 4)
    x[0, :, :2, :2], x[1, :, 2:, 2:] = 1, 1
    heat = grad_cam(network, network[0], x, lambda z: z[:, 0])
    # α = 1, so the map is A itself; half-pixel centres keep the corners' values
    assert heat.shape == (2, 4, 4)
    corners = torch.stack([heat[:, 0, 0], heat[:, 3, 3]])
    torch.testing.assert_close(corners, torch.eye(2))
    torch.testing.assert_close(heat[0], heat[1].flip(0, 1))


def test_it_works_on_frozen_networks_without_gradients() -> None:
    network = Linear([2.0, -1.0], [[3.0, 5.0]]).requires_grad_(False)
    with torch.no_grad():
        assert grad_cam(network, network.conv, X, lambda z: z[:, 0]).max() > 0
