"""The noise that is nearest to a picture, against a search by hand."""

from __future__ import annotations

import torch

from stages.stylegan2.coverage import Nearest


def flat(z: torch.Tensor) -> torch.Tensor:
    """Pictures [B, 3, 32, 32] that are the noise [B, 3] everywhere, under fine stripes."""
    stripes = torch.tensor([1.0, -1.0]).repeat(16)
    return z[:, :, None, None] + stripes.expand(32, 32)


def test_the_nearest_noise_is_found_whatever_the_detail() -> None:
    nearest = Nearest(70, 3, 32, torch.device("cpu"))
    nearest.draw(flat, torch.Generator().manual_seed(0))
    assert float(nearest.noises.std()) > 0.5
    wanted = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    found = nearest.of(wanted[:, :, None, None].expand(-1, -1, 32, 32))  # without stripes
    for colour, noise in zip(wanted, found, strict=True):
        distances = [float((colour - other).square().sum()) for other in nearest.noises]
        assert torch.equal(noise, nearest.noises[distances.index(min(distances))])


def test_draws_are_the_generators_and_kept() -> None:
    one, other = (Nearest(6, 2, 8, torch.device("cpu")) for _ in range(2))
    make = lambda z: z[:, :1, None, None].expand(-1, 3, 8, 8)  # noqa: E731
    one.draw(make, torch.Generator().manual_seed(3))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.of(torch.zeros(1, 3, 8, 8)), other.of(torch.zeros(1, 3, 8, 8)))
    other.draw(make, torch.Generator().manual_seed(3))
    assert torch.equal(one.noises, other.noises)
    other.draw(make, torch.Generator().manual_seed(4))
    assert not torch.equal(one.noises, other.noises)
