"""Frozen encoders of pictures: where they are loaded from, how they see, what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from stages.engine.batches import Triple, normalised
from stages.engine.checkpoint import load_model
from stages.engine.errors import CheckpointError
from stages.models import build
from stages.nn.published import load_published


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A frozen network from pictures [B, 3, H, W] to features [B, D], and how it wants to see.

    identity: plain values that tell what it computes, beside its weights: name and arguments.
    input_px: side to which pictures are brought on the device (bicubic, corners aligned, as the
    published Sound2Scene does from 256 to 224); None: as they come.
    """

    network: nn.Module
    identity: Mapping[str, Any] = field(default_factory=dict)
    input_px: int | None = None
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """Return features [B, D], float32 and raw, of normalised pictures [B, 3, H, W]."""
        if self.input_px is not None:
            size = (self.input_px, self.input_px)
            pictures = F.interpolate(pictures, size=size, mode="bicubic", align_corners=True)
        features: Tensor = self.network(pictures)
        return features.float()

    def encode(self, images: NDArray[np.uint8], device: torch.device) -> Tensor:
        """Return features [B, D] of pictures as they are decoded, [B, H, W, 3], on `device`."""
        return self.features(normalised(images, device, self.mean, self.std))

    def fingerprint(self) -> dict[str, Any]:
        """Return plain values that differ between any two encoders with different features."""
        return {
            "weights": weights_sha256(self.network),
            "identity": dict(self.identity),
            "input_px": self.input_px,
            "normalisation": [*self.mean, *self.std],
        }


def load_image_encoder(path: str | Path, *, input_px: int | None = None) -> Encoder:
    """Return the image encoder of a training of ours, or of a published SwAV checkpoint.

    path: a training's folder or weights file (.safetensors: an image encoder, or SwAV around it),
    or the published ResNet-50 in torch's format. Raises CheckpointError or WeightsError.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        network, metadata = load_model(path)
        name, settings = metadata["model"], dict(metadata["settings"])
        if name == "swav":
            network = network.get_submodule("encoder")
            settings = {k: v for k, v in settings.items() if k in ("arch", "width")}
        elif name != "image_encoder":
            raise CheckpointError(
                f"{path} holds the model {name!r}; an image encoder or swav is needed"
            )
    else:
        settings = {"arch": "resnet50"}
        network = build("image_encoder", **settings)
        load_published(network, "swav_trunk", path)
    identity = {"model": "image_encoder", **settings}
    network.eval().requires_grad_(False)
    return Encoder(network=network, identity=identity, input_px=input_px)


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of all parameters and buffers."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
