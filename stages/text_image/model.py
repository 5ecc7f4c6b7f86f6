"""Frozen models that hold pictures and texts in one space: CLIP, SigLIP and SigLIP 2.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021;
Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023; Tschannen et al., SigLIP 2,
2025. The networks are those of transformers. CLIP ViT-B/32: 151 277 313 parameters, 512 features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.errors import SettingsError, WeightsError
from stages.nn.encoder import Encoder
from stages.text_image.files import folder_of, read_object, require_transformers
from stages.text_image.sight import CLIP_MEAN, CLIP_STD, HALF, Colour, Sight

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT = "clip_vit_b32"
KINDS = {
    "clip": ("CLIP", "CLIPModel"),
    "siglip": ("SigLIP", "SiglipModel"),
    "siglip2": ("SigLIP 2", "Siglip2Model"),
}
"""What a config.json calls a model → its name, and its class in transformers."""
FILTERS: dict[Any, Literal["bicubic", "bilinear"]] = {2: "bilinear", 3: "bicubic"}  # Pillow's


class TextImage(Encoder):
    """Unit features of pictures and texts, so products are cosines; nothing in it learns.

    image_px: side at which pictures are seen. too_long: a text of more tokens than the model knows
    is cut off (`cut_off` tells which are, for a note), or an error.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sight: Sight,
        *,
        name: str,
        device: str | torch.device = "cpu",
        too_long: Literal["cut", "error"] = "cut",
    ) -> None:
        self._model = model.float().eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._sight = sight
        self._device = torch.device(device)
        self.kind: str = model.config.model_type
        self.name, self.too_long = name, too_long
        self.image_px = sight.side_px
        self.max_tokens: int = model.config.text_config.max_position_embeddings
        config = model.config
        self.dim: int = (
            config.projection_dim if self.kind == "clip" else config.vision_config.hidden_size
        )
        self.description = f"{KINDS[self.kind][0]} ({name})"

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path = DEFAULT,
        *,
        device: str | torch.device = "cpu",
        too_long: Literal["cut", "error"] = "cut",
    ) -> Self:
        """Load from the weights table, a local folder in the hub's layout, or the hub.

        Raises WeightsError, with what to do, if it cannot be had.
        """
        require_transformers()
        folder = folder_of(name_or_folder)
        config = read_object(folder / "config.json")
        kind = config.get("model_type")
        if kind not in KINDS:
            raise WeightsError(
                f"the model in {folder} is of the kind {kind!r} (model_type of its config.json); "
                f"this reads pictures and texts by {', '.join(KINDS)}"
            )
        model, tokenizer = read_model(folder, kind), read_tokenizer(folder)
        sight = sight_of(folder, kind, model.config.vision_config)
        return cls(
            model, tokenizer, sight, name=str(name_or_folder), device=device, too_long=too_long
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on: a digest of weights and words, and how it sees."""
        weights, words = hashlib.sha256(), hashlib.sha256()
        for name, value in self._model.state_dict().items():
            weights.update(name.encode())
            weights.update(value.cpu().numpy().tobytes())
        for word, number in sorted(self._tokenizer.get_vocab().items()):
            words.update(f"{word}\n{number}\n".encode())
        sees = self._sight
        return {
            "extractor": self.kind,
            "sha256": weights.hexdigest(),
            "words": words.hexdigest(),
            "sight": [sees.side_px, sees.crop, sees.filter, *sees.mean, *sees.std],
        }

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return unit features [N, dim] of RGB pictures [H, W, 3], each of any size."""
        with torch.inference_mode():
            return _plain(self._look(self._sight.stored(images).to(self._device)))

    def seen(self, images: Tensor) -> Tensor:
        """Return unit features [B, dim] of pictures [B, 3, H, W] in [-1, 1].

        Differentiable to the pictures, and to nothing else.
        """
        return self._look(self._sight.made(images))

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit features [N, dim] of texts, taken as they are.

        Raises SettingsError for one that is too long, if it is not to be cut off.
        """
        tokens = self._tokens(texts)
        with torch.inference_mode():
            pooled = self._model.text_model(**tokens).pooler_output
            features = self._model.text_projection(pooled) if self.kind == "clip" else pooled
            return _plain(F.normalize(features, dim=-1))

    def cut_off(self, texts: Sequence[str]) -> list[str]:
        """Return the texts that are too long, of which the model reads the beginning."""
        lengths = self._tokenizer(list(texts), verbose=False)["input_ids"]
        return [t for t, ids in zip(texts, lengths, strict=True) if len(ids) > self.max_tokens]

    def _look(self, pixels: Tensor) -> Tensor:
        """Return unit features of pixels [B, 3, side, side] as the model wants them."""
        if self.kind == "siglip2":
            inputs = _patches(pixels, self._model.config.vision_config.patch_size)
        else:
            inputs = {"pixel_values": pixels}
        pooled = self._model.vision_model(**inputs).pooler_output
        features = self._model.visual_projection(pooled) if self.kind == "clip" else pooled
        return F.normalize(features, dim=-1)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        if self.too_long == "error" and (long := self.cut_off(texts)):
            raise SettingsError(
                f"{len(long)} texts are too long for {self.description}, which knows "
                f"{self.max_tokens} tokens; shorten them: {long[0][:60]!r} …"
            )
        # SigLIP has learnt from texts that are filled up to their full length, without a mask.
        padding = True if self.kind == "clip" else "max_length"
        tokens = self._tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            max_length=self.max_tokens,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._device)
        masked = {"attention_mask": tokens["attention_mask"]} if self.kind == "clip" else {}
        return {"input_ids": tokens["input_ids"], **masked}


def read_model(folder: Path, kind: str) -> Any:
    """Return the network in a folder; raises WeightsError for weights that do not fit it."""
    import transformers

    try:
        model, about = getattr(transformers, KINDS[kind][1]).from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # of a damaged file any
        answer = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"cannot read the {KINDS[kind][0]} in {folder}: {answer}") from None
    if missing := sorted(about["missing_keys"]):  # which transformers would leave random
        raise WeightsError(
            f"the weights in {folder} lack {len(missing)} parameters of a {KINDS[kind][0]} of its "
            f"config.json ({', '.join(missing[:3])} …); get the model again"
        )
    return model


def read_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in a folder; raises WeightsError if none can be made of its files."""
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of a damaged file, or of a package that is not installed, any
        answer = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"cannot make a tokenizer of the files in {folder}: {answer}") from None


def sight_of(folder: Path, kind: str, vision: Any) -> Sight:
    """Return how a model sees: as its preprocessor_config.json says, else as its kind does.

    vision: the config of its picture tower, which fixes the size.
    """
    told = read_object(folder / "preprocessor_config.json")
    told = told or read_object(folder / "processor_config.json").get("image_processor", {})
    crop, mean, std = (True, CLIP_MEAN, CLIP_STD) if kind == "clip" else (False, HALF, HALF)
    if kind == "siglip2":  # which sees any size: here the one that it has learnt from
        side_px, resample = vision.patch_size * math.isqrt(vision.num_patches), 2
    else:
        side_px, resample = vision.image_size, 3
    resample = told.get("resample", resample)
    try:
        return Sight(
            side_px=side_px,
            crop=bool(told.get("do_center_crop", crop)),
            filter=FILTERS[resample],
            mean=_colour(told.get("image_mean", mean)),
            std=_colour(told.get("image_std", std)),
        )
    except (KeyError, TypeError, ValueError):
        raise WeightsError(
            f"the picture settings in {folder} are not known: resample {resample!r} (2 or 3), "
            f"image_mean {told.get('image_mean')!r}, image_std {told.get('image_std')!r} (three "
            "numbers each); get the model again"
        ) from None


def _colour(values: Any) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _patches(pixels: Tensor, patch_px: int) -> dict[str, Tensor]:
    """Return pixels [B, 3, S, S] as SigLIP 2 takes them: patches [B, (S / p)², p · p · 3]."""
    count, n = len(pixels), pixels.shape[-1] // patch_px
    x = pixels.reshape(count, 3, n, patch_px, n, patch_px).permute(0, 2, 4, 3, 5, 1)
    shape = torch.full((count, 2), n, device=pixels.device)
    mask = torch.ones(count, n * n, dtype=torch.int64, device=pixels.device)
    return {
        "pixel_values": x.reshape(count, n * n, -1),
        "pixel_attention_mask": mask,
        "spatial_shapes": shape,
    }


def _plain(features: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = features.cpu().numpy()
    return result
