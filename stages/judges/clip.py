"""CLIP: pictures and category names in one space, for R@k as the papers report it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata import weights
from avdata.errors import WeightsError
from avdata.frames import normalise
from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT = "clip_vit_b32"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_TOKENS = 77


class ClipEncoder(Encoder):
    """A CLIP model of transformers; features have unit length, so products are cosines.

    Pictures are resized to the short side (Pillow's bicubic), cropped to the centre and normalised
    by CLIP's own mean and std. Texts are taken as they are: the papers state no template.
    """

    def __init__(
        self,
        model: Any,  # transformers.CLIPModel
        tokenizer: Any,  # transformers.CLIPTokenizer
        *,
        name: str,
        device: str | torch.device = "cpu",
    ) -> None:
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self.name = name
        self._device = torch.device(device)
        self._image_px: int = model.config.vision_config.image_size
        self.dim: int = model.config.projection_dim
        self.description = f"CLIP ({name}), text = category name"

    @classmethod
    def load(cls, name_or_folder: str = DEFAULT, *, device: str | torch.device = "cpu") -> Self:
        """Load from the weights table, a local folder in the hub's layout, or the hub.

        Raises WeightsError, with what to do, if it cannot be had.
        """
        from stages.engine import torchaudio_guard

        torchaudio_guard.install()  # transformers imports torchvision where it is installed
        try:
            from transformers import CLIPModel, CLIPTokenizer
        except ImportError as error:
            raise WeightsError(
                f"CLIP needs the package transformers ({error}); run: pip install 'avdata[eval]'"
            ) from None
        name, name_or_folder = name_or_folder, str(weights.resolve(name_or_folder))
        local = Path(name_or_folder).is_dir()
        for only_local in (True,) if local else (True, False):
            try:
                model = CLIPModel.from_pretrained(name_or_folder, local_files_only=only_local)
                tokenizer = CLIPTokenizer.from_pretrained(
                    name_or_folder, local_files_only=only_local
                )
            except (OSError, ValueError) as error:
                answer = str(error).strip().splitlines()[0]
                continue
            return cls(model, tokenizer, name=name, device=device)
        if local:
            raise WeightsError(
                f"the folder {name_or_folder} holds no complete CLIP model: {answer}; it needs "
                "config.json, model.safetensors, vocab.json and merges.txt"
            )
        raise WeightsError(
            f"CLIP {name_or_folder!r} is no local folder, not in the hub's cache, and the hub did "
            f"not give it ({answer}). Where there is a network, run: hf download {name_or_folder} "
            "--local-dir FOLDER, and give that folder. Without CLIP, R@k is also measured by a "
            "probe trained on real frames"
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on: a digest of all weights, wherever they came from."""
        digest = hashlib.sha256()
        for name, value in self._model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().numpy().tobytes())
        return {"extractor": "clip", "sha256": digest.hexdigest()}

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return unit features [N, dim] of RGB pictures [H, W, 3], each of any size."""
        squares = np.stack([resize_and_crop(image, self._image_px) for image in images])
        pixels = torch.from_numpy(normalise(squares, CLIP_MEAN, CLIP_STD)).to(self._device)
        with torch.inference_mode():
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
            return _unit(self._model.visual_projection(pooled))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit features [N, dim] of texts; what is longer than 77 tokens is cut off."""
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self._device)
        with torch.inference_mode():
            pooled = self._model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            return _unit(self._model.text_projection(pooled))


def resize_and_crop(image: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Return the centre square [side, side, 3] of a picture whose short side became `side_px`."""
    from PIL import Image

    height, width = image.shape[:2]
    short = min(height, width)
    wide, high = int(side_px * width / short), int(side_px * height / short)
    resized = Image.fromarray(image).resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - side_px) // 2, (high - side_px) // 2
    return np.asarray(resized.crop((left, top, left + side_px, top + side_px)))


def _unit(features: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = F.normalize(features.float(), dim=-1).cpu().numpy()
    return result
