"""The layers of BigGAN (Brock et al., Large scale GAN training, ICLR 2019, appendix B).

Every convolution and linear layer is divided by an estimate of its largest singular value
(Miyato et al., Spectral normalization for GANs, ICLR 2018).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPECTRAL_EPS = 1e-6


def spectral_weight(weight: Tensor, u: Tensor, update: bool, eps: float = SPECTRAL_EPS) -> Tensor:
    """Return W / σ with σ = uᵀ W v after one power iteration, differentiable in W.

    weight: [out, ...], flattened to W [out, in]. u: [out], the left singular vector so far, changed
    in place if `update`. Always in float32: bfloat16 would leave σ with three digits.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(matrix.T @ u, dim=0, eps=eps)
            u_next = F.normalize(matrix @ v, dim=0, eps=eps)
            if update:
                u.copy_(u_next)
        normalised: Tensor = weight / torch.dot(u_next, matrix @ v)
        return normalised


class SpectralConv2d(nn.Conv2d):
    """A square convolution that keeps height and width, spectrally normalised, orthogonal init."""

    u: Tensor
    padding: tuple[int, int]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = True
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias
        )
        nn.init.orthogonal_(self.weight)
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))

    def forward(self, input: Tensor) -> Tensor:
        weight = spectral_weight(self.weight, self.u, self.training)
        return F.conv2d(input, weight, self.bias, padding=self.padding)


class SpectralLinear(nn.Linear):
    """A linear layer, spectrally normalised, orthogonal init."""

    u: Tensor

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        nn.init.orthogonal_(self.weight)
        self.register_buffer("u", F.normalize(torch.randn(out_features), dim=0))

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, spectral_weight(self.weight, self.u, self.training), self.bias)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with gain 1 + W_g y and bias W_b y, both without a constant of their own.

    x: [B, C, H, W]; y: [B, condition_dim].
    """

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = SpectralLinear(condition_dim, channels, bias=False)
        self.bias = SpectralLinear(condition_dim, channels, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        gain, bias = 1 + self.gain(y), self.bias(y)  # [B, C]
        scaled: Tensor = self.norm(x) * gain[:, :, None, None] + bias[:, :, None, None]
        return scaled


class SelfAttention(nn.Module):
    """x + γ o(softmax(θᵀφ) g) with keys and values pooled 2 × 2 and γ = 0 at the start.

    Zhang et al., Self-attention generative adversarial networks, ICML 2019, as BigGAN builds it:
    θ and φ have C / 8 channels, g has C / 2, scores are not scaled. x: [B, C, H, W].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8:
            raise ValueError(f"self-attention needs 8 channels or more, there are {channels}")
        self.theta = SpectralConv2d(channels, channels // 8, 1, bias=False)
        self.phi = SpectralConv2d(channels, channels // 8, 1, bias=False)
        self.g = SpectralConv2d(channels, channels // 2, 1, bias=False)
        self.o = SpectralConv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        query = _tokens(self.theta(x))  # [B, 1, H W, C/8]
        key = _tokens(F.max_pool2d(self.phi(x), 2))  # [B, 1, H W / 4, C/8]
        value = _tokens(F.max_pool2d(self.g(x), 2))  # [B, 1, H W / 4, C/2]
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        mixed = mixed.squeeze(1).transpose(1, 2)  # [B, C/2, H W]
        attended: Tensor = self.o(mixed.reshape(*mixed.shape[:2], height, width))
        return x + self.gamma * attended


def _tokens(x: Tensor) -> Tensor:
    """Return [B, C, H, W] as [B, 1, H W, C]."""
    return x.flatten(2).transpose(1, 2).unsqueeze(1)


class GeneratorBlock(nn.Module):
    """Norm, ReLU, 2 × nearest up-sampling, conv, norm, ReLU, conv; beside it a 1 × 1 shortcut.

    x: [B, in, H, W]; y: [B, condition_dim]; returns [B, out, 2 H, 2 W].
    """

    def __init__(self, in_channels: int, out_channels: int, condition_dim: int) -> None:
        super().__init__()
        self.bn1 = ConditionalBatchNorm2d(in_channels, condition_dim)
        self.conv1 = SpectralConv2d(in_channels, out_channels)
        self.bn2 = ConditionalBatchNorm2d(out_channels, condition_dim)
        self.conv2 = SpectralConv2d(out_channels, out_channels)
        self.conv_sc = SpectralConv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.bn1(x, y)), scale_factor=2.0)
        h = self.conv2(F.relu(self.bn2(self.conv1(h), y)))
        # A 1 × 1 convolution commutes with nearest up-sampling and costs a quarter before it.
        shortcut = F.interpolate(self.conv_sc(x), scale_factor=2.0)
        return torch.add(h, shortcut)


class DiscriminatorBlock(nn.Module):
    """ReLU, conv, ReLU, conv, 2 × 2 mean; beside it a 1 × 1 shortcut.

    The first block takes the picture itself, hence without ReLU; a block that changes neither size
    nor channels has an identity beside it. x: [B, in, H, W]; returns [B, out, H, W] or half.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, downsample: bool, first: bool
    ) -> None:
        super().__init__()
        self.downsample, self.first = downsample, first
        self.conv1 = SpectralConv2d(in_channels, out_channels)
        self.conv2 = SpectralConv2d(out_channels, out_channels)
        learned = downsample or in_channels != out_channels
        self.conv_sc = SpectralConv2d(in_channels, out_channels, 1) if learned else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else F.relu(x)
        h = self.conv2(F.relu(self.conv1(h)))
        if self.downsample:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        # A 1 × 1 convolution commutes with the mean and costs a quarter after it.
        return torch.add(h, self.conv_sc(x))
