"""Published encoders of sound that share a space with pictures, as embedders.

    wav2clip   ResNet-18 and two linear layers; hears log power at 16 kHz
    soundini   Swin-T on one channel; hears 128 mel bands at 44.1 kHz, relative to the maximum
    lee2022    ResNet-18 behind a convolution from 1 to 3 channels; the same bands in another order

All were aligned to CLIP ViT-B/32, which their files do not say.

Wu et al., Wav2CLIP: Learning Robust Audio Representations from CLIP, ICASSP 2022; Lee et al.,
Soundini: Sound-Guided Diffusion for Natural Video Editing, 2023; Lee et al., Sound-Guided Semantic
Image Manipulation, CVPR 2022. Layouts and front-ends are as their public code has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.audio.spec import SOUND_GUIDED_RELATIVE, AudioSpec
from avdata.errors import WeightsError
from stages.nn.published import differences, load_published, read_tensors
from stages.nn.resnet import make_trunk
from stages.nn.swin import in_timm_s_names
from stages.sound_guided.embedder import SoundEmbedder, network_embedder
from stages.sound_guided.sound_encoder import SoundEncoder

DIM = 512
CONSTANTS = ("relative_position_index", "attn_mask", "num_batches_tracked")

WAV2CLIP = AudioSpec(
    name="wav2clip",
    sample_rate_hz=16_000,
    n_samples=160_000,
    fill="zeros",
    n_fft=512,
    window="hann",
    window_length=512,
    hop=353,
    edges="reflect",
    quantity="power",
    log="natural",
    log_offset=1e-7,
    standardise=True,
)
"""Wav2CLIP: log power, standardised over the clip, [1, 257, 454] for 10 s. Its code standardises
over all sounds of a batch together, which is the same for one sound at a time."""

LEE_2022 = replace(SOUND_GUIDED_RELATIVE, name="lee2022", resize_px=None)
"""[1, 128, 864]; the network brings it to the size at which it learnt."""


class Wav2Clip(nn.Module):
    """ResNet-18 on one channel → mean → linear → ReLU → linear: [B, 1, F, N] → [B, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = make_trunk("resnet18", in_channels=1)
        self.head = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, DIM))

    def forward(self, x: Tensor) -> Tensor:
        heard: Tensor = self.head(self.trunk(x).mean(dim=(2, 3)))
        return heard


class Lee2022(nn.Module):
    """The encoder of CVPR 2022 as it learnt: [B, 1, 128, 864] → [B, 512].

    Its code resizes bands × columns to 512 × 128 and then reads these numbers row by row as 128 ×
    512: a row of what it sees is four bands one after the other. Its weights know nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SoundEncoder(arch="resnet18", dim=DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (512, 128), mode="bilinear", align_corners=False)
        heard: Tensor = self.encoder.head(self.encoder.features(x.reshape(len(x), 1, 128, 512)))
        return heard


def open_wav2clip(path: Path, device: torch.device | str) -> SoundEmbedder:
    """Return Wav2CLIP: `audio_encoder.…`, `audio_transform.sequential.0` and `.3`."""
    network = Wav2Clip()
    load_published(network, "wav2clip", path)
    return network_embedder("wav2clip", network, WAV2CLIP, dim=DIM, device=device)


def open_soundini(path: Path, device: torch.device | str) -> SoundEmbedder:
    """Return Soundini's encoder: `feature_extractor.…` in timm's names, and two scales."""
    network = SoundEncoder(arch="swin_t", dim=DIM)
    tensors = in_timm_s_names(_of_the_extractor(path))
    renamed = {
        f"features.{name}": value for name, value in tensors.items() if not name.startswith("head.")
    }
    for name, value in tensors.items():  # head.fc.weight, or head.weight in older ones
        if name.startswith("head."):
            renamed[f"head.{name.rpartition('.')[2]}"] = value
    return _filled("soundini", network, renamed, SOUND_GUIDED_RELATIVE, path, device)


def open_lee2022(path: Path, device: torch.device | str) -> SoundEmbedder:
    """Return the encoder of CVPR 2022: `conv.…` and `feature_extractor.…`, a ResNet-18."""
    renamed = {}
    for name, value in _of_the_extractor(path).items():
        if name.startswith("conv."):
            renamed[f"encoder.features.stem.{name.removeprefix('conv.')}"] = value
        elif name.startswith("fc."):
            renamed[f"encoder.head.{name.removeprefix('fc.')}"] = value
        else:
            renamed[f"encoder.features.trunk.{name}"] = value
    return _filled("lee2022", Lee2022(), renamed, LEE_2022, path, device)


def _of_the_extractor(path: Path) -> dict[str, Tensor]:
    """Return what the encoders of Lee et al. are made of, without scales and constants."""
    found = {}
    for name, value in read_tensors(path).items():
        name = name.removeprefix("module.").removeprefix("feature_extractor.")
        if not name.startswith("logit_scale") and not name.endswith(CONSTANTS):
            found[name] = value
    return found


def _filled(
    name: str,
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    spec: AudioSpec,
    path: Path,
    device: torch.device | str,
) -> SoundEmbedder:
    wanted = network.state_dict()
    counters = {key: value for key, value in wanted.items() if key.endswith(CONSTANTS)}
    if problems := differences(wanted, {**counters, **tensors}):
        raise WeightsError(
            f"{path} holds no sound encoder of the kind {name}: {problems}; is it of another kind?"
        )
    network.load_state_dict({**counters, **tensors})
    return network_embedder(name, network, spec, dim=DIM, device=device)
