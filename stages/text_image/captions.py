"""What stands under a picture of a class: its name in each of several prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avdata.errors import SettingsError

SLOT = "{}"


def class_text(label: str) -> str:
    """Return the words of a label: `dog_barking` reads dog barking."""
    return " ".join(label.replace("_", " ").split())


def require_prompts(prompts: Sequence[str]) -> None:
    """Raise ValueError unless there are prompts, each with one place for the class."""
    if not prompts or any(prompt.count(SLOT) != 1 for prompt in prompts):
        raise ValueError(f"each of the prompts needs one {SLOT} for the class, got {list(prompts)}")


@dataclass(frozen=True, slots=True)
class Captions:
    """The captions of all classes by all prompts, as tokens ids [C · P, L] and their mask."""

    prompts: int
    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any, *, prompts: int, max_tokens: int) -> Captions:
        """Return them; texts [C · P]: class by class. Raises SettingsError if one is too long."""
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt", verbose=False)
        lengths = tokens["attention_mask"].sum(dim=1)
        if (most := int(lengths.max())) > max_tokens:
            raise SettingsError(
                f"the caption {texts[int(lengths.argmax())][:60]!r} … has {most} tokens, more than "
                f"max_tokens={max_tokens}; raise max_tokens, or shorten prompts and labels"
            )
        return cls(prompts, tokens["input_ids"], tokens["attention_mask"])

    def to(self, device: torch.device) -> Captions:
        return Captions(self.prompts, self.ids.to(device), self.mask.to(device))

    def drawn(self, classes: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ids and mask [B, L] of classes [B], each by a prompt drawn at random."""
        draw = torch.randint(self.prompts, classes.shape, generator=rng, device=classes.device)
        rows = classes * self.prompts + draw
        return self.ids[rows], self.mask[rows]

    def first(self) -> tuple[Tensor, Tensor]:
        """Return ids and mask [C, L] of all classes by the first prompt."""
        return self.ids[:: self.prompts], self.mask[:: self.prompts]


def captions(names: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """Return the texts [C · P] of all classes by all prompts, class by class."""
    return [prompt.replace(SLOT, class_text(name)) for name in names for prompt in prompts]
