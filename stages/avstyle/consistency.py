"""What keeps a restyled picture the same picture: PatchNCE, or in its place the way back.

Park et al., Contrastive Learning for Unpaired Image-to-Image Translation, ECCV 2020 (CUT).
Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, ICCV
2017 (CycleGAN).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stages.avstyle.generator import Content
from stages.avstyle.projections import sample_locations
from stages.engine.rng import generator_for
from stages.losses.patch_nce import patch_nce

if TYPE_CHECKING:
    from stages.engine.run import Run


@dataclass(frozen=True, slots=True)
class Painted:
    """A micro-batch and what was painted of it, with its graph; pictures [B, 3, S, S] in [-1, 1].

    same: G(y, sound of y), if identity is asked for. layers: the generator's of x, or of x and y,
    one after the other. told: of y's sound, as the discriminator takes it.
    """

    keys: list[str]
    x: Tensor
    y: Tensor
    told: Tensor
    fake: Tensor
    same: Tensor | None
    layers: list[Tensor]


@dataclass(frozen=True, slots=True)
class Kept:
    """How far a painted picture is from its own: G(x) from x, and G(y) from y if there is one."""

    consistency: Tensor
    identity: Tensor | None


class PatchConsistency:
    """PatchNCE of x and G(x), and of y and G(y), at the same places of all pictures.

    Places are those of the step on all ranks and in all micro-batches.
    """

    def __init__(
        self,
        run: Run[Any],
        content: Content,
        projections: nn.Module,
        *,
        patches: int,
        temperature: float,
    ) -> None:
        self.run, self.projections = run, projections
        self.read: Callable[[Tensor], list[Tensor]] = content.layers
        if run.settings.train.compile:
            self.read = torch.compile(content.layers)
        self.patches, self.temperature = patches, temperature

    def __call__(self, painted: Painted) -> Kept:
        run, n = self.run, len(painted.fake)
        made = painted.fake if painted.same is None else torch.cat([painted.fake, painted.same])
        with run.fabric.autocast():
            layers = self.read(made)
        chance = generator_for(run.seed, run.name, f"patches of step {run.step}", run.device)
        places = sample_locations(layers, chance, self.patches)
        queries = self.projections(layers, places)
        with torch.no_grad():  # the keys stay where they are: only the new picture is to move
            keys = self.projections(painted.layers, places)

        def nce(rows: slice) -> Tensor:
            return patch_nce([q[rows] for q in queries], [k[rows] for k in keys], self.temperature)

        return Kept(nce(slice(n)), None if painted.same is None else nce(slice(n, None)))


class CycleConsistency:
    """‖B(G(x)) − x‖₁ of a generator B that hears nothing, and ‖G(y) − y‖₁; means over values."""

    def __init__(self, run: Run[Any], back: nn.Module) -> None:
        self.run, self.back = run, back

    def __call__(self, painted: Painted) -> Kept:
        again = self.back(painted.fake)
        identity = None if painted.same is None else (painted.same - painted.y).abs().mean()
        return Kept((again - painted.x).abs().mean(), identity)
