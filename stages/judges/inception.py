"""Features of Inception-v3 for FID, and class scores for IS where there is a class head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from avdata import weights
from avdata.errors import WeightsError
from avdata.store import sha256_file
from stages.engine.checkpoint import described, load_weights
from stages.nn.encoder import Encoder
from stages.nn.inception import FEATURE_DIM, IMAGE_PX, InceptionV3, load_trunk
from stages.nn.published import read_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

Resize = Literal["bicubic", "bilinear"]


class InceptionFeatures(Encoder):
    """RGB pictures of any size → the 2048 pooled features of Inception-v3, float32.

    resize: how a picture becomes 299 × 299. "bicubic" is Pillow's, with antialiasing, on floats
    (as clean-fid does; Parmar et al., 2022); "bilinear" is TensorFlow 1's, without (as the first
    FID did, and torch-fidelity does). Pictures of 299 × 299 are left as they are by both. Values
    are then (x − 128) / 128.
    """

    dim = FEATURE_DIM

    def __init__(
        self,
        model: InceptionV3,
        *,
        resize: Resize = "bicubic",
        has_head: bool = False,
        source: str = "given weights",
        sha256: str = "",
        device: str | torch.device = "cpu",
    ) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._resize: Resize = resize
        self._sha256 = sha256
        self._device = torch.device(device)
        self.has_head = has_head
        self.description = f"Inception-v3 ({source}), {resize} to {IMAGE_PX} px"

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        resize: Resize = "bicubic",
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load weights: `path`, or the standard ones of FID from the cache or its sources.

        Read are the standard TorchScript file (2048 features, no class head), published
        `pt_inception` files (.pth, 1008 classes) and networks trained by this project
        (.safetensors, or a training's folder). Raises WeightsError for anything else.
        """
        if path is None:
            file, source = weights.path("fid_inception"), "FID, 2015"
            return cls._script(file, source, resize, device)
        given = Path(path)
        if given.is_dir() or given.suffix == ".safetensors":
            return cls._trained(given, resize, device)
        if not given.is_file():
            raise WeightsError(
                f"Inception-v3: there is no {given}; leave the path out for the standard weights, "
                "or run: avdata weights get fid_inception"
            )
        if sha256_file(given) == weights.entry("fid_inception").sha256:
            return cls._script(given, "FID, 2015", resize, device)
        state = read_plain(given)
        if not isinstance(state, dict) or not isinstance(state.get("fc.weight"), Tensor):
            raise WeightsError(f"Inception-v3: {given} holds no weights named as in pt_inception")
        model = InceptionV3(n_classes=len(state["fc.weight"]))
        has_head = load_trunk(model, state)
        digest = sha256_file(given)
        source = f"{given.name}, {digest[:8]}"
        return cls(
            model, resize=resize, has_head=has_head, source=source, sha256=digest, device=device
        )

    @classmethod
    def _script(cls, file: Path, source: str, resize: Resize, device: str | torch.device) -> Self:
        model = InceptionV3()
        read: Any = torch.jit.load  # has no annotations
        load_trunk(model, read(file, map_location="cpu").state_dict())
        digest = weights.entry("fid_inception").sha256
        return cls(model, resize=resize, source=source, sha256=digest, device=device)

    @classmethod
    def _trained(cls, path: Path, resize: Resize, device: str | torch.device) -> Self:
        metadata, state = load_weights(path)
        if metadata.get("model") != "inception":
            raise WeightsError(f"{path} holds the model {metadata.get('model')!r}, not 'inception'")
        model = described(metadata, path)
        assert isinstance(model, InceptionV3)
        if not load_trunk(model, state):
            raise WeightsError(f"{path}: the class head is missing or has another size")
        file = path / "model.safetensors" if path.is_dir() else path
        digest = sha256_file(file)
        source = f"trained here, {model.fc.out_features} classes, {digest[:8]}"
        return cls(model, resize=resize, has_head=True, source=source, sha256=digest, device=device)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {"extractor": "inception", "sha256": self._sha256, "resize": self._resize}

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features [N, 2048] of RGB pictures [H, W, 3], each of any size."""
        resize = resize_bicubic if self._resize == "bicubic" else resize_bilinear
        pixels = torch.stack([resize(image) for image in images]).to(self._device)
        with torch.inference_mode():
            features = self._model.features((pixels - 128) / 128)
        result: NDArray[np.float32] = features.float().cpu().numpy()
        return result

    def logits(self, features: NDArray[np.float32], *, bias: bool = True) -> NDArray[np.float32]:
        """Return class scores [N, C] of features [N, 2048], for the Inception score.

        With the standard head the score is taken without the bias, as everyone has done since the
        first implementation. Raises WeightsError where the weights have no head.
        """
        if not self.has_head:
            raise WeightsError(
                f"{self.description} has no class head, which the Inception score needs: give a "
                "pt_inception file with its head, or a network trained on the data's own classes"
            )
        weight = self._model.fc.weight.cpu().numpy()
        scores: NDArray[np.float32] = features @ weight.T
        return scores + self._model.fc.bias.cpu().numpy() if bias else scores


def resize_bicubic(image: NDArray[np.uint8]) -> Tensor:
    """Return a picture [H, W, 3] as float32 [3, 299, 299] in [0, 255]: Pillow's bicubic filter.

    Each channel is resized as floats, so nothing is rounded to whole values, and clipped.
    """
    from PIL import Image

    size = (IMAGE_PX, IMAGE_PX)
    if image.shape[:2] == size:
        return torch.from_numpy(image.astype(np.float32).transpose(2, 0, 1).copy())
    planes = [
        np.asarray(
            Image.fromarray(image[:, :, c].astype(np.float32)).resize(
                size, Image.Resampling.BICUBIC
            )
        )
        for c in range(3)
    ]
    return torch.from_numpy(np.stack(planes)).clamp(0, 255)


def resize_bilinear(image: NDArray[np.uint8]) -> Tensor:
    """Return a picture [H, W, 3] as float32 [3, 299, 299] in [0, 255], as TensorFlow 1 resizes.

    Output i reads at i · in / out, between that pixel and the next, without antialiasing.
    """
    x = torch.from_numpy(np.ascontiguousarray(image)).float()
    for axis in (0, 1):
        length = x.shape[axis]
        place = torch.arange(IMAGE_PX) * (length / IMAGE_PX)
        low = place.long()
        high = (low + 1).clamp(max=length - 1)
        share = (place - low).reshape(-1, 1, 1) if axis == 0 else (place - low).reshape(1, -1, 1)
        below, above = x.index_select(axis, low), x.index_select(axis, high)
        x = below + (above - below) * share
    return x.permute(2, 0, 1).contiguous()
