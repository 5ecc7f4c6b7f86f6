"""PatchNCE's networks and places, and where gradients go when all parts work together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.avstyle.generator import Generator
from stages.avstyle.projections import PATCHES, Projections, sample_locations
from stages.losses.patch_nce import patch_nce


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        mlps = Projections(channels=Generator().content.layer_channels)
    assert sum(p.numel() for p in mlps.parameters()) == 560_384


def test_places_are_drawn_without_replacement_by_the_generator_alone() -> None:
    layers = [torch.zeros(2, 3, 40, 30), torch.zeros(2, 8, 9, 7)]
    draw = [sample_locations(layers, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*draw, strict=True))
    assert [len(places) for places in draw[0]] == [PATCHES, 63]  # fewer where there are fewer
    for places, size in zip(draw[0], (1200, 63), strict=True):
        assert len(set(places.tolist())) == len(places)
        assert 0 <= int(places.min()) <= int(places.max()) < size
    assert sorted(draw[0][1].tolist()) == list(range(63))
    state = torch.get_rng_state()
    other = sample_locations(layers, torch.Generator().manual_seed(6))
    assert not torch.equal(other[0], draw[0][0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_rows_are_those_of_these_places_and_of_unit_length(memory: torch.memory_format) -> None:
    layers = [
        torch.randn(2, 3, 5, 4).to(memory_format=memory),
        torch.randn(2, 6, 3, 3).to(memory_format=memory),
    ]
    places = [torch.tensor([19, 0, 6]), torch.tensor([4, 8])]
    mlps = Projections(channels=[3, 6], dim=7)
    with torch.no_grad():
        for p in mlps.parameters():
            p.normal_()
    vectors = mlps(layers, places)
    for mlp, layer, ids, found in zip(mlps.mlps, layers, places, vectors, strict=True):
        assert found.shape == (2, len(ids), 7)
        w1, b1, w2, b2 = (p.detach().double().numpy() for p in mlp.parameters())
        for picture in range(2):
            for row, place in enumerate(ids.tolist()):
                y, x = divmod(place, layer.shape[3])
                patch = layer[picture, :, y, x].double().numpy()
                hidden = np.maximum(w1 @ patch + b1, 0)
                vector = w2 @ hidden + b2
                expected = vector / (np.linalg.norm(vector) + 1e-7)
                np.testing.assert_allclose(
                    found[picture, row].detach().numpy(), expected, rtol=1e-4, atol=1e-5
                )


def test_a_vector_of_zeros_gives_no_nan() -> None:
    mlps = Projections(channels=[3], dim=4)
    layer = torch.zeros(1, 3, 2, 2, requires_grad=True)
    vectors = mlps([layer], [torch.tensor([0, 3])])
    (vectors[0].sum() + patch_nce(vectors, vectors)).backward()
    assert not vectors[0].any()
    assert layer.grad is not None
    assert layer.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mlps.parameters())


def test_the_loss_teaches_by_the_painted_picture_alone() -> None:
    """As the trainer uses it: the keys, from the pass that painted, teach nobody."""
    generator = Generator(width=4, blocks=3, sound_dim=6)
    mlps = Projections(channels=generator.content.layer_channels, dim=8)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    painted = generator.paint(x, torch.randn(2, 6))
    places = sample_locations(painted.layers, torch.Generator().manual_seed(0))
    keys = mlps(painted.layers, places)
    picture = painted.picture.detach().requires_grad_()
    patch_nce(mlps(generator.content.layers(picture), places), keys).backward()
    assert picture.grad is not None
    assert picture.grad.any()
    assert all(p.grad is not None for p in mlps.parameters())
    assert all(p.grad is None for p in generator.drawing.parameters())  # not by the keys
    # The same gradient as where keys are numbers from the start.
    first = [p.grad.clone() for p in mlps.parameters() if p.grad is not None]
    mlps.zero_grad()
    with torch.no_grad():
        fixed = mlps(generator.content.layers(x), places)
    patch_nce(mlps(generator.content.layers(picture), places), fixed).backward()
    for a, p in zip(first, mlps.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)
