"""OpenL3's two towers, so that the published weights fit: 512 features of a picture or of 1 s.

Cramer et al., Look, Listen and Learn More: Design Choices for Deep Audio Embeddings, ICASSP 2019;
the towers are those of Arandjelović and Zisserman, Look, Listen and Learn, ICCV 2017. Here the
models "env" with the linear spectrogram: batch norm over the input; three times two 3×3
convolutions with batch norm and ReLU and a 2×2 maximum; one such convolution to 512 channels and
one without norm or ReLU. The maximum over all places of what that gives is the embedding of 512.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.errors import WeightsError
from stages.nn.published import read_tensors

DIM = 512
PICTURE_PX = 224
CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512)
POOLED = (1, 3, 5)  # convolutions after which the maximum halves the sides
NORM_EPS = 1e-3  # Keras's, in which the weights were learnt
KERAS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Keras's names of what batch norm holds → torch's."""


class Tower(nn.Module):
    """Pictures [B, 3, 224, 224] in [−1, 1], or spectrograms [B, 1, 257, 197] in dB ≤ 0 → [B, 512].

    4 687 042 parameters for sounds and 4 688 198 for pictures; Keras, which counts the running
    statistics too, tells 4 689 860 and 4 691 020.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(in_channels, eps=NORM_EPS)
        widths = (in_channels, *CHANNELS)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, CHANNELS, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, eps=NORM_EPS) for c in CHANNELS[:-1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_norm(x)
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=False)):
            x = F.relu(norm(conv(x)))
            if number in POOLED:
                x = F.max_pool2d(x, 2)
        embedding: Tensor = self.convs[-1](x).amax(dim=(2, 3))
        return embedding

    def in_order(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the layers that hold weights in the order in which Keras keeps them."""
        yield "input_norm", self.input_norm
        for number, conv in enumerate(self.convs):
            yield f"convs.{number}", conv
            if number < len(self.norms):
                yield f"norms.{number}", self.norms[number]


def load_tower(tower: Tower, path: str | Path) -> None:
    """Fill a tower: with Keras's weights (.h5, .h5.gz) or with tensors by our names (.safetensors).

    Raises WeightsError, with what does not fit, unless each tensor of the tower is in the file.
    """
    path = Path(path)
    state = read_tensors(path) if path.suffix == ".safetensors" else _of_keras(tower, path)
    wanted = {n: v for n, v in tower.state_dict().items() if not n.endswith("batches_tracked")}
    problems = [f"{name} is missing" for name in wanted if name not in state]
    problems += [f"{name} is not part of the tower" for name in state if name not in wanted]
    problems += [
        f"{name} is {list(state[name].shape)}, the tower has {list(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        raise WeightsError(
            f"{path} holds no weights of this tower of OpenL3 (env, linear): "
            + "; ".join(problems[:8])
            + "; take the file of the other tower, or of the right input"
        )
    tower.load_state_dict(state, strict=False)  # but for the counters of batches, all is there


def _of_keras(tower: Tower, path: Path) -> dict[str, Tensor]:
    """Return the tensors of Keras's file under our names; layers are matched by their order.

    Kernels are [height, width, in, out] there. The transform that makes the spectrogram, which the
    oldest files hold as a layer, is left out.
    """
    found = [layer for layer in _layers(path) if layer]
    own = list(tower.in_order())
    if len(found) != len(own):
        raise WeightsError(
            f"{path} has {len(found)} layers with weights, a tower of OpenL3 {len(own)}: is it the "
            "file of another network?"
        )
    state = {}
    for (name, module), layer in zip(own, found, strict=True):
        for key, value in layer.items():
            if isinstance(module, nn.Conv2d) and key == "kernel" and value.ndim == 4:
                key, value = "weight", value.permute(3, 2, 0, 1).contiguous()
            state[f"{name}.{KERAS.get(key, key)}"] = value
    return state


def _layers(path: Path) -> list[Mapping[str, Tensor]]:
    """Return of each layer its tensors by their last name, in the file's order."""
    if not path.is_file():
        raise WeightsError(f"OpenL3: there is no {path}; run: avdata weights get openl3")
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(
            f"{path.name} is a file of Keras, which needs the package h5py ({error}); run: pip "
            "install 'avdata[eval]'"
        ) from None
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        with h5py.File(io.BytesIO(data), "r") as file:
            root = file.get("model_weights", file)
            names = [_text(name) for name in root.attrs["layer_names"]]
            return [_tensors(root[name]) for name in names if "spectrogram" not in name]
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise WeightsError(f"cannot read {path} as weights of Keras: {error}") from None


def _tensors(layer: Any) -> dict[str, Tensor]:
    names = [_text(name) for name in layer.attrs["weight_names"]]
    return {
        name.rpartition("/")[2].partition(":")[0]: torch.tensor(layer[name][()]) for name in names
    }


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
