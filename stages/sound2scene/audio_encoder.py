"""The audio encoder of Sound2Scene and Sound2Vision: a spectrogram → an image feature.

Sung-Bin et al., Sound to Visual Scene Generation by Audio-to-Visual Latent Alignment,
CVPR 2023; and Sound2Vision (its journal version), which feeds a latent diffusion model.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from stages.nn.resnet import init_weights, make_trunk


class AudioEncoder(nn.Module):
    """ResNet on one channel → global average → head: [B, 1, F, N] → z^A [B, out_dim].

    head: "linear" is one linear layer (Sound2Scene, out_dim 2048: 12 220 864 parameters with
    ResNet-18); "mlp" is linear → ReLU → linear, all of out_dim (Sound2Vision on Stable unCLIP,
    out_dim 1024: 12 745 152 parameters).
    final_relu: make z^A non-negative, as the image features that it meets are; None: as published,
    with the linear head alone.
    Convolutions start from Kaiming's normal (fan-out), batch norm weights from N(1, 0.02).
    """

    def __init__(
        self,
        *,
        arch: str = "resnet18",
        width: int | None = None,
        out_dim: int = 2048,
        head: Literal["linear", "mlp"] = "linear",
        final_relu: bool | None = None,
    ) -> None:
        super().__init__()
        if head not in ("linear", "mlp"):
            raise ValueError(f"head must be linear or mlp, got {head!r}")
        self.trunk = make_trunk(arch, in_channels=1, width=width)
        init_weights(self.trunk, bn_std=0.02)
        layers: list[nn.Module] = [nn.Linear(self.trunk.out_channels, out_dim)]
        if head == "mlp":
            layers += [nn.ReLU(), nn.Linear(out_dim, out_dim)]
        if final_relu if final_relu is not None else head == "linear":
            layers.append(nn.ReLU())
        self.head = nn.Sequential(*layers)
        self.out_dim = out_dim

    def forward(self, spectrogram: Tensor) -> Tensor:
        features = self.trunk(spectrogram)  # [B, C, f, n]
        z_A: Tensor = self.head(features.mean(dim=(2, 3)))  # [B, out_dim]
        return z_A
