"""SpecAugment (Park et al. 2019): bands and stretches of a spectrogram hidden, time warped.

The extents are drawn as torchaudio's `mask_along_axis_iid` draws them, but from a generator that is
given: torchaudio draws from the global one, so that a result would depend on all else that draws.
Equal draws give equal masks, which the tests hold against torchaudio.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.strict import setting
from stages.engine.settings import bounded

HIDDEN = 0.0  # the quietest that a front-end of [0, 1] gives


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecAugmentSettings:
    """How much of a spectrogram is hidden or moved."""

    frequency_masks: int = setting(2, "Bands of frequencies hidden in each spectrogram.")
    frequency_share: float = setting(0.15, "Widest band, as a share of all; drawn from 0 up to it.")
    time_masks: int = setting(2, "Stretches of time hidden in each spectrogram.")
    time_share: float = setting(0.3, "Longest stretch, as a share of all; drawn from 0 up to it.")
    time_warp: float = setting(
        0.0, "Farthest that a moment is moved along time, as a share of all; 0: no warping."
    )

    def __post_init__(self) -> None:
        bounded(self, "frequency_masks", "time_masks", least=0)
        for name in ("frequency_share", "time_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.time_warp < 0.5:
            raise ValueError(f"time_warp must lie in [0, 0.5), got {self.time_warp}")


class SpecAugment:
    """Spectrograms [B, 1, F, T] → the same shape, each with masks of its own."""

    def __init__(self, settings: SpecAugmentSettings | None = None) -> None:
        self.settings = settings or SpecAugmentSettings()

    def __call__(self, spectrograms: Tensor, generator: torch.Generator) -> Tensor:
        """Return the spectrograms warped, then masked with 0; the given ones stay as they are.

        generator: on their device; the result depends on nothing else.
        """
        s, (batch, _, bands, frames) = self.settings, spectrograms.shape
        found = spectrograms
        if s.time_warp:
            centre, shift = draw_warp(batch, s.time_warp, generator)
            found = warp_time(found, centre, shift)
        hidden = torch.zeros(batch, bands, frames, dtype=torch.bool, device=found.device)
        for _ in range(s.time_masks):
            hidden |= draw_mask(batch, frames, s.time_share, generator)[:, None, :]
        for _ in range(s.frequency_masks):
            hidden |= draw_mask(batch, bands, s.frequency_share, generator)[:, :, None]
        return found.masked_fill(hidden[:, None], HIDDEN)


def draw_mask(batch: int, size: int, share: float, generator: torch.Generator) -> Tensor:
    """Return bool [B, size]: one stretch in each row, shorter than `share` of it.

    With u, v uniform in [0, 1) and M = floor(share * size): from floor(v (size - u M)), floor(u M)
    places on (Park et al. 2019, section 2; the roundings are torchaudio's).
    """
    draws = torch.rand(2, batch, 1, generator=generator, device=generator.device)
    length = draws[0] * int(share * size)
    start = (draws[1] * (size - length)).long()
    places = torch.arange(size, device=generator.device)
    return (places >= start) & (places < start + length.long())


def draw_warp(batch: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a moment and how far it moves, [B] each, as shares of all frames.

    The moment is uniform in [share, 1 - share], the way in [-share, share] (Park et al. 2019).
    """
    draws = torch.rand(2, batch, generator=generator, device=generator.device)
    return share + (1 - 2 * share) * draws[0], share * (2 * draws[1] - 1)


def warp_time(spectrograms: Tensor, centre: Tensor, shift: Tensor) -> Tensor:
    """Return spectrograms [B, 1, F, T] whose moment `centre` lies at `centre + shift`, both [B].

    Both ends stay; between, time runs evenly on either side of the moment; linear interpolation.
    """
    b, _, bands, frames = spectrograms.shape
    at = torch.linspace(0, 1, frames, device=spectrograms.device).expand(b, -1)
    here, there = centre[:, None], (centre + shift)[:, None]
    tiny = 1e-6  # a moment that has moved to an end
    before = at * here / there.clamp(min=tiny)
    after = here + (at - there) * (1 - here) / (1 - there).clamp(min=tiny)
    source = torch.where(at < there, before, after)  # [B, T], in [0, 1]
    x = (2 * source - 1)[:, None, :].expand(-1, bands, -1)
    y = torch.linspace(-1, 1, bands, device=x.device)[None, :, None].expand_as(x)
    grid = torch.stack([x, y], 3).to(spectrograms.dtype)
    return F.grid_sample(spectrograms, grid, padding_mode="border", align_corners=True)
