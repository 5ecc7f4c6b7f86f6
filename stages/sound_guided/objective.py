"""What draws a sound to its text, its picture, itself heard otherwise, and others of its kind.

    L = L_at + L_av + L_aâ + L_KL                                        (Eq. 13)

L_xy is InfoNCE in both directions, summed, the mean over the batch (Eq. 5, 6 and 8); L_KL is in
stages/losses/weak_pairs.py. Lee et al., Robust Sound-Guided Image Manipulation, 2024. The paper is
silent on the temperature: two learned scales, as the same authors' later code has them, one for
texts and one for pictures. The second serves a ↔ â too, whose pairs are, like pictures and unlike
texts, each the only one of their kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from avdata.strict import setting
from stages.losses.info_nce import FIRST_SCALE, LearnedScale, cosine_info_nce, sharing
from stages.losses.weak_pairs import weak_pair_kl


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a loss consists of; each can be left out, as in the paper's ablations."""

    text: bool = setting(True, "a ↔ t: a sound and its text (Eq. 5).")
    image: bool = setting(True, "a ↔ v: a sound and its picture (Eq. 6).")
    sound: bool = setting(True, "a ↔ â: a sound and itself heard otherwise (Eq. 8).")
    weak: Literal["rows", "diagonal", "none"] = setting(
        "rows",
        "KL over weakly paired pictures (Eq. 12): of whole rows, a divergence; of the diagonal, as "
        "the paper writes it; none.",
    )
    mask_repeated: bool = setting(
        False, "Clips of a batch that share a label are no negatives of each other."
    )

    def __post_init__(self) -> None:
        if not (self.text or self.image or self.sound or self.weak != "none"):
            raise ValueError("all terms are off, so there is nothing to learn; switch one on")


@dataclass(frozen=True, slots=True)
class Features:
    """Of some clips, [B, D] each: heard, heard otherwise, and what they are drawn to."""

    sound: Tensor
    other: Tensor | None  # â; None where the term is off
    text: Tensor
    image: Tensor
    weak: Tensor
    labels: Tensor  # [B, L]


class Scales(nn.Module):
    """The scales 1 / temperature that these terms learn, by name."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        wanted = {"text": terms.text, "image": terms.image or terms.sound}
        self.learned = nn.ModuleDict({name: LearnedScale() for name, on in wanted.items() if on})

    def forward(self) -> dict[str, Tensor]:
        return {name: scale() for name, scale in self.learned.items()}


def sound_clip_loss(
    features: Features, scales: dict[str, Tensor], terms: Terms
) -> dict[str, Tensor]:
    """Return L under `loss`, and its terms by the names of their settings.

    scales: of `Scales`. The KL term takes the scale of pictures, as it is, for teacher and sound;
    the one that learning starts from where no term learns it.
    """
    alike = sharing(features.labels) if terms.mask_repeated else None
    of_images = scales.get("image", torch.tensor(FIRST_SCALE, device=features.sound.device))
    found: dict[str, Tensor] = {}
    if terms.text:
        found["text"] = 2 * cosine_info_nce(features.sound, features.text, scales["text"], alike)
    if terms.image:
        found["image"] = 2 * cosine_info_nce(features.sound, features.image, of_images, alike)
    if terms.sound:
        if features.other is None:
            raise ValueError("the term a ↔ â needs the sounds heard otherwise")
        found["sound"] = 2 * cosine_info_nce(features.sound, features.other, of_images, alike)
    if terms.weak != "none":
        found["weak"] = weak_pair_kl(
            features.sound, features.text, features.weak, of_images, reading=terms.weak
        )
    return {"loss": sum(found.values(), start=torch.zeros_like(of_images)), **found}


@torch.no_grad()
def zero_shot(sound: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """Return the share of sounds [B, D] the nearest of whose class texts [L, D] is of one of their
    labels [B, L]."""
    nearest = (nn.functional.normalize(sound.float(), dim=1) @ classes.T).argmax(dim=1)
    return (labels.gather(1, nearest[:, None]) > 0).float().mean()
