"""Frozen encoders of pictures: where they are loaded from, how they see, what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from avdata import frames, weights
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from stages.engine.batches import Triple, normalised
from stages.engine.checkpoint import load_model
from stages.engine.errors import CheckpointError
from stages.models import build
from stages.nn.encoder import Encoder
from stages.nn.published import load_published


@dataclass(frozen=True, kw_only=True)
class FrozenEncoder(Encoder):
    """A frozen network from pictures [B, 3, H, W] to raw features [B, D], and how it wants to see.

    identity: plain values that tell what it computes, beside its weights: name and arguments.
    view_px: side to which pictures of any size are squashed first; None: all come in one size.
    input_px: side to which pictures are brought on the device (bicubic, corners aligned, as the
    published Sound2Scene does from 256 to 224); None: as they come.
    """

    network: nn.Module
    identity: Mapping[str, Any] = field(default_factory=dict)
    view_px: int | None = None
    input_px: int | None = None
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    @cached_property
    def dim(self) -> int:  # type: ignore[override]
        zeros = torch.zeros(1, 3, 64, 64, device=self.device)
        with torch.no_grad():
            return int(self.network(zeros).shape[-1])

    @property
    def description(self) -> str:  # type: ignore[override]
        named = ", ".join(f"{name} {value}" for name, value in self.identity.items())
        return f"{named or type(self.network).__name__} ({weights_sha256(self.network)[:8]})"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """Return features [B, D], float32 and raw, of normalised pictures [B, 3, H, W]."""
        if self.input_px is not None:
            size = (self.input_px, self.input_px)
            pictures = F.interpolate(pictures, size=size, mode="bicubic", align_corners=True)
        features: Tensor = self.network(pictures)
        return features.float()

    def of_pixels(self, images: NDArray[np.uint8], device: torch.device) -> Tensor:
        """Return features [B, D] of pictures of one size [B, H, W, 3], on `device`."""
        return self.features(normalised(images, device, self.mean, self.std))

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        side = self.view_px
        seen = images if side is None else [frames.squash(image, side, side) for image in images]
        features: NDArray[np.float32] = self.of_pixels(np.stack(seen), self.device).cpu().numpy()
        return features

    def fingerprint(self) -> dict[str, Any]:
        """Return plain values that differ between any two encoders with different features."""
        seen = {} if self.view_px is None else {"view_px": self.view_px}
        return {
            "weights": weights_sha256(self.network),
            "identity": dict(self.identity),
            "input_px": self.input_px,
            "normalisation": [*self.mean, *self.std],
            **seen,
        }


def load_image_encoder(
    path: str | Path, *, view_px: int | None = None, input_px: int | None = None
) -> FrozenEncoder:
    """Return the image encoder of a training of ours, or of a published SwAV checkpoint.

    path: a training's folder or weights file (.safetensors: an image encoder, or SwAV around it),
    the published ResNet-50 in torch's format, or its name in the weights table (swav_resnet50).
    Raises CheckpointError or WeightsError.
    """
    path = weights.resolve(path)
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
    return FrozenEncoder(network=network, identity=identity, view_px=view_px, input_px=input_px)


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of all parameters and buffers."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
