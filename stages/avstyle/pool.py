"""Pictures that were painted before, shown to the discriminator again.

Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial Training,
CVPR 2017, as CycleGAN has it (Zhu et al., ICCV 2017).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

AGAIN = 0.5  # chance that an earlier picture is shown in the place of a new one


class Pool:
    """At most `size` painted pictures, each with what the discriminator is told beside it.

    Until it is full, all new pictures are kept and shown; from then on each is shown as it is, or,
    with a chance of a half, takes the place of a kept one, which is shown. One pool for all
    processes, which see the same one.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.pictures: list[Tensor] = []
        self.told: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(seed % 2**63)

    @torch.no_grad()
    def exchange(self, pictures: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Return what to show in the place of new pictures [B, 3, H, W] and told [B, ...]."""
        shown = [
            self._one(picture, beside)
            for picture, beside in zip(everyone(pictures), everyone(told), strict=True)
        ]
        rank, world_size = _place()
        own = shown[rank::world_size]
        return torch.stack([one for one, _ in own]), torch.stack([one for _, one in own])

    def _one(self, picture: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        if len(self.pictures) < self.size:
            self.pictures.append(picture.clone())
            self.told.append(told.clone())
            return picture, told
        if torch.rand((), generator=self._generator) >= AGAIN:
            return picture, told
        place = int(torch.randint(self.size, (), generator=self._generator))
        old = self.pictures[place], self.told[place]
        self.pictures[place], self.told[place] = picture.clone(), told.clone()
        return old

    def state_dict(self) -> dict[str, Any]:
        """Return the pictures, and where chance stands."""
        kept = {"pictures": list(self.pictures), "told": list(self.told)}
        return {**kept, "chance": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with other pictures."""
        self.pictures, self.told = list(state["pictures"]), list(state["told"])
        self._generator.set_state(state["chance"])


def everyone(x: Tensor) -> Tensor:
    """Return the rows of all processes in the order of the batch, of which they take turns."""
    world_size = _place()[1]
    if world_size == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size)]
    distributed.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def _place() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
