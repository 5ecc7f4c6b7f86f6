"""A picture found again among a generator's latents: by an encoder, or by search.

The search is the projector of StyleGAN2.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, Appendix D: from
the mean latent, 1000 steps of Adam at 0.1, the rate ramped up and down, and noise on the latent
that fades, so that the search leaves poor minima:

    w ← w + σ_w · 0.05 · max(0, 1 − t / 0.75)² · ε,   ε ~ N(0, 1),  t: share of the steps done
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from avdata.errors import SettingsError
from avdata.strict import setting, to_tree
from stages.engine.optim import ramped
from stages.engine.rng import generator_for
from stages.engine.settings import bounded
from stages.losses.white_noise import autocorrelation
from stages.nn.vgg import Vgg19
from stages.sound_guided.codes import LatentGenerator, Spread, fitting
from stages.stylegan2.encoders import SEEN_PX, PictureEncoder

Views = Callable[[Tensor], Sequence[Tensor]]
"""Pictures [B, 3, R, R] in [-1, 1] → what of them is compared, [B, ...] each."""

Space = Literal["w", "w+"]
UP, DOWN = 0.05, 0.25  # shares of the steps in which the rate rises and falls
SCALES = 4  # of the pyramid


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorSettings:
    """How a picture is searched; the defaults are StyleGAN2's, in the wider space W+."""

    steps: int = setting(1000, "Updates.")
    lr: float = setting(0.1, "Peak learning rate.")
    space: Space = setting("w+", "One latent for all layers (w), or one for each (w+).")
    jitter: float = setting(0.05, "Noise on the latent at first, in its deviations.")
    jitter_share: float = setting(0.75, "Share of the steps after which there is none.")
    noise_weight: float = setting(
        0.0,
        "Above 0 (1e5 as published): the generator's noise is searched too, held white with this "
        "weight; it takes up what no latent makes, and is dropped.",
    )

    def __post_init__(self) -> None:
        bounded(self, "steps", "lr", "jitter_share", above=0)
        bounded(self, "jitter", "noise_weight", least=0)


class Inverter(Protocol):
    """Finds the codes of pictures."""

    def invert(self, pictures: Tensor, keys: Sequence[str], seed: int) -> Tensor:
        """Return codes [B, L, W] of pictures [B, 3, R, R] in [-1, 1]; keys: of any noise."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return plain values on which the codes depend, beside generator and pictures."""
        ...


def pyramid(pictures: Tensor) -> list[Tensor]:
    """Return pictures [B, 3, R, R] at their side and at halves of it, four in all, down to 8 px."""
    found = [pictures]
    while len(found) < SCALES and found[-1].shape[-1] >= 16:
        found.append(F.avg_pool2d(found[-1], 2))
    return found


def also_seen(seen: Callable[[Tensor], Tensor]) -> Views:
    """Return views of the pyramid, and of unit features such as CLIP's, at ‖a − b‖²."""

    def views(pictures: Tensor) -> list[Tensor]:
        features = seen(pictures)
        return [*pyramid(pictures), features * features.shape[1] ** 0.5]

    return views


def also_layers(network: Vgg19) -> Views:
    """Return views of the pyramid, and of VGG-19's layers at 256 px at most.

    As in LPIPS without its weights (Zhang et al., CVPR 2018): at each place a unit vector, whose
    squared differences are summed over channels and averaged over places.
    """

    def views(pictures: Tensor) -> list[Tensor]:
        small = pictures.clamp(-1, 1)
        if small.shape[-1] > SEEN_PX:
            small = F.adaptive_avg_pool2d(small, SEEN_PX)
        layers = network((small + 1) / 2)
        units = [F.normalize(layer, dim=1) * layer.shape[1] ** 0.5 for layer in layers]
        return [*pyramid(pictures), *units]

    return views


def distance(views: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the sum over views of the mean squared difference of each sample, [B]."""
    each = [(a - b).square().flatten(1).mean(dim=1) for a, b in zip(views, wanted, strict=True)]
    return torch.stack(each).sum(dim=0)


def noise_maps(
    generator: LatentGenerator, rngs: Sequence[torch.Generator], device: torch.device
) -> dict[str, Tensor]:
    """Return maps [B, 1, S, S] in the place of the generator's noise, by its name there.

    Raises SettingsError for a generator that has none, as StyleGAN3.
    """
    synthesis = generator.synthesis
    assert isinstance(synthesis, nn.Module)
    sides = {
        name: own.shape[-1] for name, own in synthesis.named_buffers() if name.endswith("noise")
    }
    if not sides:
        raise SettingsError("noise_weight: this generator has no noise to search; set it to 0")
    drawn = {
        name: torch.stack([torch.randn(1, side, side, generator=rng) for rng in rngs])
        for name, side in sides.items()
    }
    return {name: own.to(device).requires_grad_() for name, own in drawn.items()}


def made(generator: LatentGenerator, ws: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """Return the pictures of codes, with these maps in the place of the generator's noise."""
    if not maps:
        return generator.synthesis(ws)
    assert isinstance(generator.synthesis, nn.Module)
    pictures: Tensor = functional_call(generator.synthesis, maps, (ws,))
    return pictures


def standardised(noise: Tensor) -> Tensor:
    """Return maps [B, 1, S, S] of mean 0 and mean square 1."""
    noise = noise - noise.mean(dim=(1, 2, 3), keepdim=True)
    return noise * noise.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()


@dataclass(frozen=True)
class Projector:
    """Searches codes by gradient. views: what is compared; named: says which, for results."""

    generator: LatentGenerator
    spread: Spread
    settings: ProjectorSettings
    views: Views = pyramid
    named: str = "pyramid"

    def identity(self) -> dict[str, Any]:
        return {"projector": to_tree(self.settings), "views": self.named}

    def invert(self, pictures: Tensor, keys: Sequence[str], seed: int) -> Tensor:
        """Return the best code of the way of each picture, [B, L, W].

        Each picture has noise of its own, so a batch changes none of them.
        """
        ws, _ = self.search(pictures, keys, seed)
        return ws

    def search(self, pictures: Tensor, keys: Sequence[str], seed: int) -> tuple[Tensor, Tensor]:
        """Return the best codes [B, L, W], and the distance before each update, [steps + 1, B]."""
        settings, generator = self.settings, self.generator
        with torch.no_grad():
            wanted = [view.detach() for view in self.views(pictures)]
        layers = generator.n_latents if settings.space == "w+" else 1
        mean = self.spread.mean
        w = mean.expand(len(pictures), layers, -1).clone().requires_grad_()
        rngs = [generator_for(seed, "project", key, torch.device("cpu")) for key in keys]
        maps = noise_maps(generator, rngs, mean.device) if settings.noise_weight else {}
        searched = [w, *maps.values()]
        optimizer = torch.optim.Adam(searched, lr=settings.lr)
        best = torch.full((len(pictures),), torch.inf, device=mean.device)
        best_w, curve = w.detach().clone(), []
        for step in range(1, settings.steps + 2):
            t = (step - 1) / settings.steps
            fade = max(0.0, 1 - t / settings.jitter_share) ** 2
            tried = w
            if settings.jitter and fade:
                noise = torch.stack([torch.randn(w.shape[1:], generator=rng) for rng in rngs])
                tried = w + self.spread.deviation * settings.jitter * fade * noise.to(w.device)
            ws = tried.expand(-1, generator.n_latents, -1)
            error = distance(self.views(made(generator, ws, maps)), wanted)
            curve.append(error.detach())
            better = error.detach() < best
            best = torch.where(better, error.detach(), best)
            best_w = torch.where(better[:, None, None], tried.detach(), best_w)
            if step > settings.steps:
                break
            white = [autocorrelation(own).sum() for own in maps.values()]
            loss = error.sum() + settings.noise_weight * sum(white)
            gradients = torch.autograd.grad(loss, searched)
            for one, gradient in zip(searched, gradients, strict=True):
                one.grad = gradient
            for group in optimizer.param_groups:
                group["lr"] = ramped(step, settings.steps, settings.lr, up=UP, down=DOWN)
            optimizer.step()
            with torch.no_grad():
                for own in maps.values():
                    own.copy_(standardised(own))
        codes = best_w.expand(-1, generator.n_latents, -1).contiguous()
        return codes, torch.stack(curve)


@dataclass(frozen=True)
class Encoded:
    """Codes that a published encoder tells in one pass. source: its file and SHA-256."""

    encoder: PictureEncoder
    generator: LatentGenerator
    source: Mapping[str, str]

    def __post_init__(self) -> None:
        fitting(self.encoder.latent_avg, self.generator, self.source["file"])

    def identity(self) -> dict[str, Any]:
        return {"encoder": self.source["sha256"]}

    @torch.no_grad()
    def invert(self, pictures: Tensor, keys: Sequence[str], seed: int) -> Tensor:
        """Return codes [B, L, W] of pictures [B, 3, R, R]; nothing is drawn at random."""
        if pictures.shape[-1] != SEEN_PX:
            size = (SEEN_PX, SEEN_PX)
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        codes: Tensor = self.encoder(pictures)
        return codes
