"""The sound encoder: a spectrogram → where it lies in the space of texts and pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from avdata.audio.spec import SOUND_GUIDED, SOUND_GUIDED_RELATIVE, AudioSpec
from stages.nn.resnet import make_trunk
from stages.nn.swin import Swin

Arch = Literal["swin_t", "resnet18", "tiny"]
ARCHS: tuple[Arch, ...] = ("swin_t", "resnet18", "tiny")
SEEN_PX = 224
TINY_WIDTH = 16
FRAMES_STEP = 32  # 862 columns, of 10 s, become 864


class SoundEncoder(nn.Module):
    """Spectrograms [B, 1, F, T] in [0, 1] → [B, dim], of any length.

    arch: swin_t, 27 910 010 parameters for dim 512, as Robust Sound-Guided Image Manipulation;
    resnet18, 11 439 198, a 3×3 convolution from 1 to 3 channels before it, as its forerunner of
    CVPR 2022; tiny, 0.7 million, for a CPU. The first two see 224×224, to which others are brought
    bilinearly. width: channels of the first layer of tiny; None: 16.
    """

    def __init__(self, *, arch: Arch = "swin_t", dim: int = 512, width: int | None = None) -> None:
        super().__init__()
        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}, got {arch!r}")
        if width is not None and arch != "tiny":
            raise ValueError(f"width is of tiny alone; {arch} is as published")
        if min(dim, width or 1) < 1:
            raise ValueError(f"dim and width must be positive, got {dim} and {width}")
        self.arch, self.dim = arch, dim
        self.features: Swin | ResNetOfThree | Tiny
        if arch == "swin_t":
            self.features = Swin(in_channels=1)
        elif arch == "resnet18":
            self.features = ResNetOfThree()
        else:
            self.features = Tiny(width or TINY_WIDTH)
        self.head = nn.Linear(self.features.out_channels, dim)

    def forward(self, spectrogram: Tensor) -> Tensor:
        if self.arch != "tiny" and spectrogram.shape[2:] != (SEEN_PX, SEEN_PX):
            size = (SEEN_PX, SEEN_PX)
            spectrogram = F.interpolate(spectrogram, size, mode="bilinear", align_corners=False)
        heard: Tensor = self.head(self.features(spectrogram))
        return heard


class ResNetOfThree(nn.Module):
    """A 3×3 convolution to three channels, unpadded, and ResNet-18: [B, 1, F, T] → [B, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3)
        self.trunk = make_trunk("resnet18")
        self.out_channels = self.trunk.out_channels

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.trunk(self.stem(x)).mean(dim=(2, 3))
        return pooled


class Tiny(nn.Module):
    """Four convolutions that halve: [B, 1, F, T] → [B, 64 · width], the mean over time in each of 8
    bands of frequency, as a pitch is where it is. No layer looks across the batch."""

    BANDS = 8

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * 2**n for n in range(4)]
        layers: list[nn.Module] = []
        for before, channels, size in zip([1, *widths], widths, (5, 3, 3, 3), strict=False):
            layers += [
                nn.Conv2d(before, channels, size, stride=2, padding=size // 2, bias=False),
                nn.GroupNorm(_groups(channels), channels),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.out_channels = widths[-1] * self.BANDS

    def forward(self, x: Tensor) -> Tensor:
        maps = F.adaptive_avg_pool2d(self.layers(x), (self.BANDS, 1))  # [B, 8 · width, 8, 1]
        return maps.flatten(1)


def _groups(channels: int) -> int:
    return next(n for n in (8, 4, 2, 1) if channels % n == 0)


def audio_spec(
    reference: Literal["fixed", "relative"] = "fixed",
    *,
    duration_s: float = 10.0,
    sample_rate_hz: int = 44_100,
) -> AudioSpec:
    """Return the front-end for sounds of this length and rate.

    reference: what decibels are relative to: fixed, so that a quieter sound is a quieter picture
    (SOUND_GUIDED), or each sound's own maximum, as the public code has it and which erases the
    level (SOUND_GUIDED_RELATIVE). Raises ValueError if it is shorter than one window.
    """
    spec = SOUND_GUIDED if reference == "fixed" else SOUND_GUIDED_RELATIVE
    n_samples = round(duration_s * sample_rate_hz)
    if (n_samples, sample_rate_hz) == (spec.n_samples, spec.sample_rate_hz):
        return spec
    columns = 1 + n_samples // spec.hop
    return replace(
        spec,
        name=f"{spec.name}_{duration_s:g}s_{sample_rate_hz}hz",
        sample_rate_hz=sample_rate_hz,
        n_samples=n_samples,
        n_frames=-(-columns // FRAMES_STEP) * FRAMES_STEP,
        mel_high_hz=min(spec.mel_high_hz, sample_rate_hz / 2),
    )
