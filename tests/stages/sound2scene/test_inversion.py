"""GAN inversion finds a generator's own pictures again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.nn.sphere import unit_norm
from stages.sound2scene.icgan import Generator
from stages.sound2scene.inversion import edited, invert


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    sizes = {"resolution": 32, "channels": 4, "z_dim": 16, "feature_dim": 8, "embed_dim": 8}
    made = Generator(**sizes, attention_px=()).train()
    with torch.no_grad():
        for parameter in made.output_conv.parameters():  # pictures of visible contrast
            parameter.mul_(3)
        for _ in range(60):  # statistics of batch norm as training leaves them
            made(torch.randn(32, 16), unit_norm(torch.randn(32, 8)))
    return made.eval()


@pytest.fixture(scope="module")
def target(generator: Generator) -> tuple[Tensor, Tensor]:
    """Pictures [2, 3, 32, 32] and the features they were made from."""
    h = unit_norm(torch.randn(2, 8, generator=rng(7)))
    with torch.no_grad():
        return generator(torch.randn(2, 16, generator=rng(8)), h), h


def test_recovers_own_pictures_from_their_feature(
    generator: Generator, target: tuple[Tensor, Tensor]
) -> None:
    image, h = target
    found = invert(generator, image, rng=rng(), h=h, steps=200)
    with torch.no_grad():
        error = (generator(found.z, found.h) - image).square().mean(dim=(1, 2, 3))
    variance = image.var(dim=(1, 2, 3))
    assert (error < 0.02 * variance).all(), (error, variance)
    torch.testing.assert_close(error, found.curve.min(0).values, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.h.norm(dim=1), torch.ones(2))


def test_without_a_feature_the_search_still_descends(
    generator: Generator, target: tuple[Tensor, Tensor]
) -> None:
    found = invert(generator, target[0], rng=rng(), steps=150)
    assert found.curve.shape == (151, 2)
    assert (found.curve.min(0).values < 0.3 * found.curve[0]).all()


def test_pictures_do_not_disturb_each_other(
    generator: Generator, target: tuple[Tensor, Tensor]
) -> None:
    image, h = target
    both = invert(generator, image, rng=rng(), h=h, steps=5, candidates=1)
    alone = invert(generator, image[:1], rng=rng(), h=h[:1], steps=5, candidates=1)
    torch.testing.assert_close(both.z[:1], alone.z, rtol=1e-3, atol=1e-4)


def test_same_seed_same_result_and_the_generator_is_left_alone(
    generator: Generator, target: tuple[Tensor, Tensor]
) -> None:
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    one, two, other = (invert(generator, target[0], rng=rng(s), steps=3) for s in (3, 3, 4))
    assert torch.equal(one.z, two.z)
    assert torch.equal(one.curve, two.curve)
    assert not torch.equal(one.z, other.z)
    assert all(torch.equal(before[n], v) for n, v in generator.state_dict().items())
    assert all(p.grad is None for p in generator.parameters())


def test_the_feature_loss_counts(generator: Generator, target: tuple[Tensor, Tensor]) -> None:
    def mean_colour(x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    image, h = target
    settings = {"h": h, "steps": 0, "candidates": 1}
    pixels = invert(generator, image, rng=rng(), **settings)
    both = invert(
        generator, image, rng=rng(), features=mean_colour, feature_weight=10.0, **settings
    )
    with torch.no_grad():
        off = mean_colour(generator(pixels.z, pixels.h)) - mean_colour(image)
    torch.testing.assert_close(both.curve - pixels.curve, 10 * off.square().mean(1)[None])


def test_an_edit_moves_along_the_difference_and_keeps_unit_norm() -> None:
    h, source, target = (
        torch.tensor([1.0, 0, 0]),
        torch.tensor([0, 5.0, 0]),
        torch.tensor([0, 0, 2.0]),
    )
    expected = torch.tensor([1.0, -2.0, 2.0]) / 3  # 1 + 4 + 4 = 9
    torch.testing.assert_close(edited(h, source, target, 2.0), expected)
    torch.testing.assert_close(edited(h, source, target, 0.0), h)


def test_unusable_input_is_explained(generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"\[B, 3, 32, 32\]"):
        invert(generator, torch.zeros(1, 3, 64, 64), rng=rng())
    try:
        generator.train()
        with pytest.raises(ValueError, match="evaluation mode"):
            invert(generator, torch.zeros(1, 3, 32, 32), rng=rng())
    finally:
        generator.eval()
