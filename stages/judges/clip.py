"""CLIP: pictures and category names in one space, for R@k as the papers report it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import torch

from avdata.errors import WeightsError
from stages.text_image.model import DEFAULT, TextImage

__all__ = ["DEFAULT", "ClipEncoder"]


class ClipEncoder(TextImage):
    """A text-image model that judges. Texts are taken as they are: the papers state no template."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.description += ", text = category name"

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path = DEFAULT,
        *,
        device: str | torch.device = "cpu",
        too_long: Literal["cut", "error"] = "cut",
    ) -> Self:
        """Load as `TextImage.load`; raises WeightsError, with what to do, if it cannot be had."""
        try:
            return super().load(name_or_folder, device=device, too_long=too_long)
        except WeightsError as error:
            raise WeightsError(
                f"{error}. Without CLIP, R@k is also measured by a probe trained on real frames"
            ) from None
