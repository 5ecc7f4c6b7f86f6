"""Latent optimisation: the code of a picture moves until the picture fits a sound or a text.

Lee et al., Robust Sound-Guided Image Manipulation, Eq. 14–17:

    L(w) = max(0, 1 − (cos(V(G(w)), a) − cos(V(G(w_s)), a)))    a: the guidance, V: CLIP's pictures
           + λ_reg ‖m ⊙ (w − w_s)‖²                              m = L softmax(g), learnt with w
           + λ_ID (1 − ⟨R(G(w)), R(G(w_s))⟩)                     R: ArcFace

A batch is optimised at once. Its loss is the sum over its samples, Adam moves every number by
itself, and the noise is the generator's own, so no sample depends on another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avdata.errors import SettingsError
from avdata.strict import setting
from stages.engine.optim import ramped
from stages.engine.settings import bounded
from stages.losses.manipulation import Mask, guidance_hinge, identity_distance, masked_distance
from stages.sound_guided.codes import LatentGenerator, Spread

Features = Callable[[Tensor], Tensor]
"""Pictures [B, 3, R, R] in [-1, 1] → unit features [B, D], differentiable."""

Recipe = Literal["stylegan2", "faces", "stylegan3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How a code is moved; the defaults are the paper's for scenes (LSUN) with StyleGAN2."""

    steps: int = setting(300, "Updates.")
    lr: float = setting(0.05, "Peak learning rate.")
    ramp_up: float = setting(0.05, "Share of the steps in which the rate rises.")
    ramp_down: float = setting(0.25, "Share of the steps in which it falls, as half a cosine.")
    betas: tuple[float, float] = setting((0.9, 0.999), "Of Adam.")
    weight_decay: float = setting(0.0, "Above 0: AdamW, which pulls codes to the mean latent.")
    standardised: bool = setting(False, "Move (w − mean) / deviation in the place of w.")
    layers: int | None = setting(None, "Only the first so many latents are moved; null: all.")
    starts: int = setting(1, "Random starts, of which the one nearest to the guidance is moved.")
    psi: float = setting(0.7, "Truncation of random starts.")
    mask: Mask = setting("squared", "Reading of the adaptive layer mask (stages/losses).")
    reg_weight: float = setting(0.002, "λ_reg: 0.002 for scenes, 0.008 for faces.")
    identity_weight: float = setting(0.0, "λ_ID: 0 for scenes, 0.004 for faces.")

    def __post_init__(self) -> None:
        bounded(self, "steps", "lr", "starts", "layers", above=0)
        bounded(self, "reg_weight", "identity_weight", "weight_decay", "psi", least=0)
        bounded(self, "ramp_up", "ramp_down", least=0)
        if self.ramp_up + self.ramp_down > 1:
            raise ValueError(
                "ramp_up and ramp_down must be shares of the steps, at most 1 together"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step`, from 1 on."""
        return ramped(step, self.steps, self.lr, up=self.ramp_up, down=self.ramp_down)


RECIPES: dict[Recipe, Search] = {
    "stylegan2": Search(),
    "faces": Search(reg_weight=0.008, identity_weight=0.004),
    "stylegan3": Search(
        steps=200,
        lr=0.03,
        ramp_up=0.0,
        ramp_down=0.0,
        betas=(0.0, 0.999),
        weight_decay=0.01,
        standardised=True,
        layers=6,
        starts=32,
    ),
}
"""The paper's with StyleGAN2, for scenes and for faces, and that for StyleGAN3 (AFHQ)."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Codes before and after, and how the search went."""

    source: Tensor  # [B, L, W]
    ws: Tensor  # [B, L, W]
    loss: Tensor  # [steps, B], before each update
    similarity: Tensor  # [steps + 1, B], cosine to the guidance before each update, and at the end
    gate: Tensor  # [B, L] of the layers that were moved
    pictures: Tensor  # [B, 3, R, R] at the end


@dataclass(frozen=True, slots=True)
class Watch:
    """Is shown pictures [B, 3, R, R] before the updates of these steps, from 1 on, for a film."""

    steps: Collection[int]
    show: Callable[[int, Tensor], None]


def optimise(
    generator: LatentGenerator,
    seen: Features,
    guidance: Tensor,
    source: Tensor,
    *,
    search: Search,
    spread: Spread | None = None,
    identity: Features | None = None,
    watch: Watch | None = None,
    progress: Callable[[int], None] | None = None,
) -> Moved:
    """Move codes [B, L, W] toward unit guidance [B, D] and return what became of them.

    seen: V. spread: of the latents, where the search is standardised. identity: R, needed where
    λ_ID is above 0. progress: told each step. The networks' weights take no part: their gradients
    are neither computed nor kept, whatever `requires_grad` says of them.

    Raises ValueError for what does not fit together.
    """
    if source.ndim != 3 or guidance.shape[0] != source.shape[0]:
        raise ValueError(f"{list(guidance.shape)} directions for codes {list(source.shape)}")
    if search.identity_weight and identity is None:
        raise SettingsError(
            "identity_weight needs a network that knows faces: give --identity, or set it to 0"
        )
    if search.standardised and spread is None:
        raise ValueError("a standardised search needs the spread of the latents")
    n_moved = min(search.layers or source.shape[1], source.shape[1])
    scale = _Scale(spread) if search.standardised and spread is not None else None
    free = source[:, :n_moved].detach().clone()
    variable = (scale.into(free) if scale else free).requires_grad_()
    gate = torch.zeros(len(source), n_moved, device=source.device, requires_grad=True)
    optimizer = _optimizer(variable, gate, search)
    losses, similarities = [], []
    start_similarity = start_face = start = None
    for step in range(1, search.steps + 1):
        moved = scale.back(variable) if scale else variable
        ws = torch.cat([moved, source[:, n_moved:]], dim=1)
        pictures = generator.synthesis(ws)
        similarity = (seen(pictures) * guidance).sum(dim=1)
        face = identity(pictures) if identity is not None and search.identity_weight else None
        if start is None or start_similarity is None:  # the first pass is that of the source
            start, start_similarity = moved.detach().clone(), similarity.detach()
            start_face = None if face is None else face.detach()
        loss = guidance_hinge(similarity, start_similarity)
        if search.reg_weight:
            loss = loss + search.reg_weight * masked_distance(moved, start, gate, search.mask)
        if face is not None and start_face is not None:
            loss = loss + search.identity_weight * identity_distance(face, start_face)
        losses.append(loss.detach())
        similarities.append(similarity.detach())
        if watch is not None and step in watch.steps:
            watch.show(step, pictures.detach())
        # Of these two alone, so that no pass is spent on the networks' weights.
        gradients = torch.autograd.grad(loss.sum(), (variable, gate), allow_unused=True)
        variable.grad, gate.grad = gradients
        for group in optimizer.param_groups:
            group["lr"] = search.rate(step)
        optimizer.step()
        if progress is not None:
            progress(step)
    with torch.no_grad():
        moved = scale.back(variable) if scale else variable
        ws = torch.cat([moved, source[:, n_moved:]], dim=1)
        pictures = generator.synthesis(ws)
        similarities.append((seen(pictures) * guidance).sum(dim=1))
    return Moved(
        source=source,
        ws=ws.detach(),
        loss=torch.stack(losses),
        similarity=torch.stack(similarities),
        gate=gate.detach(),
        pictures=pictures,
    )


class _Scale:
    """Between latents and (w − mean) / deviation."""

    def __init__(self, spread: Spread) -> None:
        self.mean = spread.mean
        # A number that never varies is not scaled: to divide by it would leave nothing.
        self.deviation = torch.where(spread.deviation > 0, spread.deviation, 1.0)

    def into(self, ws: Tensor) -> Tensor:
        return (ws - self.mean) / self.deviation

    def back(self, variable: Tensor) -> Tensor:
        return self.mean + self.deviation * variable


def _optimizer(variable: Tensor, gate: Tensor, search: Search) -> torch.optim.Optimizer:
    """Return Adam over both; the gate, whose mean means nothing, decays never."""
    groups = [
        {"params": [variable], "weight_decay": search.weight_decay},
        {"params": [gate], "weight_decay": 0.0},
    ]
    if search.weight_decay:
        return torch.optim.AdamW(groups, lr=search.lr, betas=search.betas)
    return torch.optim.Adam(groups, lr=search.lr, betas=search.betas)


@torch.no_grad()
def nearest_start(
    generator: LatentGenerator, seen: Features, guidance: Tensor, starts: Tensor
) -> Tensor:
    """Return of each sample's codes [B, n, L, W] the one whose picture fits its guidance best."""
    if starts.shape[1] == 1:
        return starts[:, 0]
    chosen = []
    for codes, direction in zip(starts, guidance, strict=True):
        parts = [seen(generator.synthesis(part)) @ direction for part in torch.split(codes, 16)]
        chosen.append(codes[int(torch.cat(parts).argmax())])
    return torch.stack(chosen)
