"""Codes move toward their guidance, each by itself, and no pass is wasted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.errors import SettingsError
from stages.engine.optim import ramped
from stages.sound_guided.codes import spread_of, truncated
from stages.sound_guided.latent_optimisation import (
    RECIPES,
    Search,
    Watch,
    nearest_start,
    optimise,
)
from tests.stages.sound_guided.tiny import CPU, DIM, Eye, generator

SEARCH = Search(steps=25)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def starts(n: int) -> Tensor:
    network = generator()
    z = torch.randn(n, network.z_dim, generator=rng(1))
    return truncated(network, z, spread_of(network, CPU).mean, 0.7)


def directions(n: int) -> Tensor:
    return F.normalize(torch.randn(n, DIM, generator=rng(2)), dim=1)


def test_pictures_come_nearer_to_their_guidance() -> None:
    found = optimise(generator(), Eye().seen, directions(4), starts(4), search=SEARCH)
    assert found.similarity.shape == (26, 4)
    assert (found.similarity[-1] > found.similarity[0] + 0.1).all()
    torch.testing.assert_close(found.loss[0], torch.ones(4))  # the hinge at the source
    with torch.no_grad():
        again = generator().synthesis(found.ws)
    torch.testing.assert_close(again, found.pictures)


def test_a_batch_is_its_samples() -> None:
    together = optimise(generator(), Eye().seen, directions(5), starts(5), search=SEARCH)
    for row in (0, 3):
        own = slice(row, row + 1)
        alone = optimise(generator(), Eye().seen, directions(5)[own], starts(5)[own], search=SEARCH)
        torch.testing.assert_close(alone.ws[0], together.ws[row], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(alone.loss[:, 0], together.loss[:, row], rtol=1e-3, atol=1e-3)


def test_against_the_equations_written_out() -> None:
    """Three updates of one code by a plain loop of torch.optim.Adam."""
    network, eye, search = generator(), Eye(), Search(steps=3, reg_weight=0.05)
    w_s, a = starts(1), directions(1)
    w = w_s.clone().requires_grad_()
    g = torch.zeros(1, w.shape[1], requires_grad=True)
    adam = torch.optim.Adam([w, g], lr=1.0)
    with torch.no_grad():
        s_0 = (eye.seen(network.synthesis(w_s)) * a).sum()
    losses = []
    for step in range(1, 4):
        s = (eye.seen(network.synthesis(w)) * a).sum()
        held = (len(g[0]) * g.softmax(1)[:, :, None] * (w - w_s)).square().sum()
        loss = (1 - s + s_0).clamp(min=0) + 0.05 * held
        losses.append(loss.item())
        adam.zero_grad()
        loss.backward()
        adam.param_groups[0]["lr"] = search.rate(step)
        adam.step()
    found = optimise(network, eye.seen, a, w_s, search=search)
    torch.testing.assert_close(found.ws, w.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.loss[:, 0], losses, rtol=1e-5)


def test_no_pass_is_wasted_and_no_weight_gets_a_gradient() -> None:
    network, eye = generator(), Eye()
    passes = []
    network.synthesis.register_forward_hook(lambda *_: passes.append(1))
    optimise(network, eye.seen, directions(2), starts(2), search=SEARCH)
    # One for each update, the first of which tells of the source too, and one at the end.
    assert len(passes) == SEARCH.steps + 1
    assert eye.seen_pictures == 2 * (SEARCH.steps + 1)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert eye.weight.grad is None


def test_a_firm_hold_keeps_codes() -> None:
    free, held = (
        optimise(
            generator(), Eye().seen, directions(2), starts(2), search=replace(SEARCH, reg_weight=w)
        )
        for w in (0.0, 1.0)
    )
    moved = [(f.ws - f.source).flatten(1).norm(dim=1) for f in (free, held)]
    assert (moved[1] < 0.5 * moved[0]).all()
    assert held.gate.abs().max() > 0.05  # the mask is learnt
    even = replace(SEARCH, mask="even", reg_weight=1.0)
    unmasked = optimise(generator(), Eye().seen, directions(2), starts(2), search=even)
    assert (unmasked.gate == 0).all()


@pytest.mark.parametrize("mask", ["squared", "literal", "even"])
def test_every_reading_moves_and_stays_finite(mask: str) -> None:
    search = replace(SEARCH, mask=mask, reg_weight=0.1)  # type: ignore[arg-type]
    found = optimise(generator(), Eye().seen, directions(1), starts(1), search=search)
    assert found.ws.isfinite().all()
    assert found.similarity[-1] > found.similarity[0]


def test_the_recipe_for_stylegan3_moves_its_first_layers_alone() -> None:
    network = generator(32)  # 8 latents
    spread = spread_of(network, CPU)
    z = torch.randn(2, network.z_dim, generator=rng(1))
    source = truncated(network, z, spread.mean, 0.7)
    recipe = RECIPES["stylegan3"]
    assert (recipe.steps, recipe.lr, recipe.betas, recipe.layers) == (200, 0.03, (0.0, 0.999), 6)
    search = replace(recipe, steps=10)
    found = optimise(network, Eye().seen, directions(2), source, search=search, spread=spread)
    torch.testing.assert_close(found.ws[:, 6:], source[:, 6:], rtol=0, atol=0)
    assert ((found.ws - source)[:, :6].abs().amax(dim=2) > 0).all()
    # A first step of Adam is its rate, whatever the gradient: of the scaled code.
    one = optimise(
        *(network, Eye().seen, directions(2), source),
        search=replace(search, steps=1, weight_decay=1e-9),
        spread=spread,
    )
    step = ((one.ws - source)[:, :6] / spread.deviation).abs()
    torch.testing.assert_close(step.median(), torch.tensor(0.03), rtol=0.01, atol=0)


def test_of_many_starts_the_nearest_is_taken() -> None:
    network, eye = generator(), Eye()
    codes = starts(12).reshape(2, 6, *starts(1).shape[1:]).repeat_interleave(2, dim=0)
    guidance = directions(1) * torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    chosen = nearest_start(network, eye.seen, guidance, codes)
    with torch.no_grad():
        all_of = torch.stack([eye.seen(network.synthesis(own)) for own in codes])
    best = (all_of * guidance[:, None]).sum(dim=2).argmax(dim=1)
    assert len(set(best.tolist())) > 1
    for own, codes_of, row in zip(chosen, codes, best, strict=True):
        torch.testing.assert_close(own, codes_of[row])


def test_the_rate_in_closed_form() -> None:
    up, down, n = 0.05, 0.25, 300
    rates = [ramped(step, n, 2.0, up=up, down=down) for step in range(1, n + 1)]
    assert rates[0] == pytest.approx(2 * 0.5 / (n * up))
    assert rates[7] == pytest.approx(2 * 7.5 / 15)
    assert all(rate == 2 for rate in rates[15:225])
    assert rates[262] == pytest.approx(1 - math.cos(math.pi * (37.5 / 75)))  # half way down: 1
    assert rates[-1] == pytest.approx(1 - math.cos(math.pi * 0.5 / 75))
    assert min(rates) > 0
    assert ramped(1, 10, 1.0, up=0, down=0) == 1


def test_pictures_can_be_watched() -> None:
    shown: dict[int, Tensor] = {}
    watch = Watch((1, 10), shown.__setitem__)
    found = optimise(generator(), Eye().seen, directions(2), starts(2), search=SEARCH, watch=watch)
    assert shown.keys() == {1, 10}
    with torch.no_grad():
        torch.testing.assert_close(shown[1], generator().synthesis(found.source))
    assert (shown[10] - shown[1]).abs().max() > 0.01


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"identity_weight needs a network that knows faces"):
        optimise(
            generator(), Eye().seen, directions(1), starts(1), search=Search(identity_weight=0.1)
        )
    with pytest.raises(ValueError, match="directions for codes"):
        optimise(generator(), Eye().seen, directions(2), starts(1), search=SEARCH)
    with pytest.raises(ValueError, match="steps must be greater than 0"):
        Search(steps=0)
    with pytest.raises(ValueError, match="at most 1 together"):
        Search(ramp_up=0.8, ramp_down=0.4)
