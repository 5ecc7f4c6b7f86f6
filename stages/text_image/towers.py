"""A CLIP of any size, to be taught: the towers of transformers' CLIPModel under the same names.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
So its weights are those that `CLIPModel.from_pretrained` reads.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from stages.engine import torchaudio_guard
from stages.losses.info_nce import FIRST_SCALE, scale_of

MARKS = 2  # the last two of the vocabulary: where a text begins, and ends


class Towers(nn.Module):
    """Pictures [B, 3, S, S] and texts [M, L] → unit features [B, D], [M, D], and their scale.

    vocabulary: how many tokens there are. width, layers: of the picture tower; text_width,
    text_layers: of the other. heads: of both. The scale of the products, e^s, stays in [1, 100].
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        image_px: int,
        patch_px: int,
        dim: int,
        width: int,
        layers: int,
        text_width: int,
        text_layers: int,
        heads: int,
        max_tokens: int,
    ) -> None:
        super().__init__()
        torchaudio_guard.install()  # transformers imports torchvision where it is installed
        from transformers import CLIPConfig, CLIPModel

        if image_px % patch_px:
            raise ValueError(f"image_px {image_px} must be a multiple of patch_px {patch_px}")
        if width % heads or text_width % heads:
            raise ValueError(f"width {width} and text_width {text_width} must divide by {heads}")
        begin, end = vocabulary - MARKS, vocabulary - 1
        both = {"num_attention_heads": heads, "projection_dim": dim}
        text = {"vocab_size": vocabulary, "max_position_embeddings": max_tokens}
        text |= {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
        self.config: Any = CLIPConfig(
            vision_config={**both, **sizes(width, layers), "image_size": image_px}
            | {"patch_size": patch_px},
            text_config={**both, **sizes(text_width, text_layers), **text},
            projection_dim=dim,
            logit_scale_init_value=math.log(FIRST_SCALE),
            architectures=["CLIPModel"],
        )
        whole = CLIPModel(self.config)
        self.vision_model, self.visual_projection = whole.vision_model, whole.visual_projection
        self.text_model, self.text_projection = whole.text_model, whole.text_projection
        self.logit_scale = whole.logit_scale

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.visual_projection(self.vision_model(pixel_values=pixels).pooler_output)
        read = self.text_model(input_ids=ids, attention_mask=mask).pooler_output
        read = self.text_projection(read)
        scale = scale_of(self.logit_scale)
        return F.normalize(seen.float(), dim=-1), F.normalize(read.float(), dim=-1), scale


def sizes(width: int, layers: int) -> dict[str, int]:
    """Return what transformers calls the sizes of a tower."""
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
