"""The sound encoder: a spectrogram → what is heard, the vector that the generator is told."""

from __future__ import annotations

from torch import Tensor, nn

from stages.nn.resnet import make_trunk


class SoundEncoder(nn.Module):
    """ResNet on one channel → global average → linear: [B, 1, F, N] → heard [B, out_dim].

    As published, the ResNet-18 (11 301 568 parameters) sees the linear magnitudes of
    avdata.audio.spec.AVSTYLE, [B, 1, 257, 301], and its first convolution has a padding of 1, in
    the place of the usual 3; no weight depends on it.
    """

    def __init__(
        self, *, arch: str = "resnet18", width: int | None = None, out_dim: int = 256
    ) -> None:
        super().__init__()
        self.trunk = make_trunk(arch, in_channels=1, width=width, stem_padding=1)
        self.head = nn.Linear(self.trunk.out_channels, out_dim)
        self.out_dim = out_dim

    def forward(self, spectrogram: Tensor) -> Tensor:
        features = self.trunk(spectrogram)  # [B, C, f, n]
        heard: Tensor = self.head(features.mean(dim=(2, 3)))  # [B, out_dim]
        return heard
