"""IR-SE-50: the residual network that knows faces, and the trunk of encoders into latents.

Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019, in its
improved residual units with squeeze and excitation (Hu et al., CVPR 2018). 43 797 696 parameters
with its head. Names are those of the published model_ir_se50.pth, which fits as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata import weights
from stages.nn.published import load_published

STAGES = ((64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3))  # channels in, out; units
FACE_PX, FACE_DIM = 112, 512
LAST_PX = FACE_PX // 16
POOLED_PX = 256
ROWS, COLUMNS = slice(35, 223), slice(32, 220)  # of 256, where an aligned picture shows the face


class SqueezeExcite(nn.Module):
    """Scales each channel [B, C, H, W] by what a small network makes of the means of all."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))
        return x * scale


class Unit(nn.Module):
    """An improved residual unit: norm, convolution, PReLU, convolution, norm, excitation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if channels_in != channels_out:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.PReLU(channels_out),
            nn.Conv2d(channels_out, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            SqueezeExcite(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return moved


def first_layer() -> nn.Sequential:
    """Return what stands before the units: colours [B, 3, H, W] → [B, 64, H, W]."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
    )


def units() -> nn.Sequential:
    """Return the 24 units, [B, 64, H, W] → [B, 512, H/16, W/16]; each stage halves the side."""
    found: list[nn.Module] = []
    for channels_in, channels_out, count in STAGES:
        found.append(Unit(channels_in, channels_out, 2))
        found += [Unit(channels_out, channels_out, 1) for _ in range(count - 1)]
    return nn.Sequential(*found)


class IrSe50(nn.Module):
    """Faces [B, 3, 112, 112] in [-1, 1] → features [B, 512], not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = first_layer()
        self.body = units()
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(FACE_DIM),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(FACE_DIM * LAST_PX**2, FACE_DIM),
            nn.BatchNorm1d(FACE_DIM),
        )

    def forward(self, faces: Tensor) -> Tensor:
        features: Tensor = self.output_layer(self.body(self.input_layer(faces)))
        return features


class FaceIdentity(nn.Module):
    """Pictures of aligned faces [B, 3, R, R] in [-1, 1] → unit vectors [B, 512], differentiable.

    They are pooled to 256 px, cropped to where an aligned picture shows the face, and pooled to
    112. The network is frozen; gradients go through it to the pictures.
    """

    def __init__(self, network: IrSe50) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.float().clamp(-1, 1)
        if x.shape[-1] != POOLED_PX:
            x = F.adaptive_avg_pool2d(x, POOLED_PX)
        x = F.adaptive_avg_pool2d(x[:, :, ROWS, COLUMNS], FACE_PX)
        return F.normalize(self.network(x), dim=1)


def load_identity(given: str | Path) -> FaceIdentity:
    """Return ArcFace with published weights (model_ir_se50.pth).

    given: a file, or its name in the weights table. Raises WeightsError for anything else.
    """
    network = IrSe50()
    load_published(network, "ir_se50", weights.resolve(given))
    return FaceIdentity(network)
