"""AVStyle's networks: published sizes, a plain float64 forward pass, what the sound can change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avdata.audio.spec import AVSTYLE
from stages.avstyle.discriminator import Discriminator, Hears, as_picture
from stages.avstyle.generator import Enters, Generator
from stages.avstyle.layers import Norm
from stages.avstyle.sound_encoder import SoundEncoder
from tests.stages.avstyle import plain

ENTERS: tuple[Enters, ...] = ("concat", "film", "none")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def tiny(enters: Enters) -> Generator:
    return Generator(width=4, blocks=5, sound_dim=6, enters=enters)


def shaken(module: nn.Module) -> dict[str, Tensor]:
    """Move every weight, as training would; return them in float64."""
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return {name: value.double() for name, value in module.state_dict().items()}


def pictures(n: int = 2, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(n, 3, height, width) * 2 - 1


# sizes


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        assert count(Generator()) == 12_493_699
        assert count(Generator(enters="none")) == 11_378_179
        assert count(SoundEncoder()) == 11_301_568
        assert count(Discriminator()) == 2_767_809
        assert count(Discriminator(sound="none")) == 2_764_737
        # CUT's, and scale and shift of 8 norms of 256 channels, one of 128 and one of 64.
        heard = (256 + 1) * 2 * (8 * 256 + 128 + 64)
        assert count(Generator(enters="film")) == 11_378_179 + heard


def test_published_shapes() -> None:
    with torch.device("meta"):
        x, heard = torch.zeros(2, 3, 256, 256), torch.zeros(2, 256)
        generator = Generator()
        read = generator.content.read(x)
        assert read.features.shape == (2, 256, 64, 64)
        shapes = [tuple(layer.shape[1:]) for layer in read.layers]
        assert shapes == [(3, 262, 262), (128, 256, 256), (256, 128, 128), *[(256, 64, 64)] * 2]
        assert generator.content.layer_channels == [shape[0] for shape in shapes]
        assert generator.drawing.up1.weight.shape == (256, 512, 3, 3)
        assert generator(x, heard).shape == x.shape
        spectrogram = torch.zeros(2, *AVSTYLE.shape)
        assert spectrogram.shape[1:] == (1, 257, 301)
        encoder = SoundEncoder()
        assert encoder(spectrogram).shape == (2, 256)
        # A padding of 1 where ResNets have 3: (257 + 2 − 7) // 2 + 1 by (301 + 2 − 7) // 2 + 1.
        assert encoder.trunk.conv1(spectrogram).shape == (2, 64, 127, 149)
        assert Discriminator()(x, spectrogram).shape == (2, 1, 30, 30)
        assert Discriminator(sound="late")(x, heard).shape == (2, 1, 30, 30)


def test_weights_start_from_xavier_with_gain_002_and_no_bias() -> None:
    for module in (Generator(width=16), Discriminator(width=16)):
        for name, value in module.named_parameters():
            if name.endswith("bias"):
                assert not value.any(), name
            elif value.numel() > 2000:
                out, inner, *kernel = value.shape
                area = kernel[0] * kernel[1] if kernel else 1
                std = 0.02 * (2 / ((out + inner) * area)) ** 0.5
                assert value.std().item() == pytest.approx(std, rel=0.1), name


# values


@pytest.mark.parametrize("enters", ENTERS)
@torch.no_grad()
def test_generator_equals_the_plain_float64_forward(enters: Enters) -> None:
    generator = tiny(enters)
    state = shaken(generator)
    x, heard = pictures(2, 12, 20), torch.randn(2, 6)
    expected, seen = plain.generate(state, x.double(), heard.double(), told=enters == "concat")
    painted = generator.paint(x, heard)
    torch.testing.assert_close(painted.picture.double(), expected, rtol=1e-4, atol=2e-5)
    for layer, name in zip(
        painted.layers, ("padded", "down1", "down2", "block 1", "block 3"), strict=True
    ):
        torch.testing.assert_close(layer.double(), seen[name], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_discriminator_equals_the_plain_float64_forward() -> None:
    discriminator = Discriminator(width=4)
    state = shaken(discriminator)
    picture, sound = pictures(2, 64, 64), torch.rand(2, 1, 65, 64)
    image = sound[:, :, :64].repeat(1, 3, 1, 1)
    expected = plain.discriminate(state, torch.cat([image, picture], 1).double())
    torch.testing.assert_close(
        discriminator(picture, sound).double(), expected, rtol=1e-4, atol=1e-4
    )
    deaf = Discriminator(width=4, sound="none")
    expected = plain.discriminate(shaken(deaf), picture.double())
    torch.testing.assert_close(deaf(picture).double(), expected, rtol=1e-4, atol=1e-4)


def test_the_spectrogram_as_a_picture() -> None:
    sound = torch.rand(1, 1, 257, 301)
    assert torch.equal(as_picture(sound, 256, 256), sound[:, :, :256, :256])
    small = as_picture(sound, 64, 32)
    assert small[0, 0, 3, 5].item() == pytest.approx(sound[0, 0, 12:16, 40:48].mean().item())
    assert as_picture(sound, 300, 260).shape == (1, 1, 300, 260)


@pytest.mark.parametrize("enters", ENTERS)
@torch.no_grad()
def test_content_and_drawing_are_the_whole(enters: Enters) -> None:
    generator = tiny(enters)
    shaken(generator)
    x, heard = pictures(), torch.randn(2, 6)
    whole = generator(x, heard)
    features = generator.content(x)
    assert features.shape == (2, 16, 4, 4)
    assert torch.equal(generator.drawing(features, heard), whole)
    assert torch.equal(generator.paint(x, heard).picture, whole)
    alone, passed = generator.content.layers(x), generator.content.read(x).layers
    assert all(torch.equal(a, b) for a, b in zip(alone, passed, strict=True))


@torch.no_grad()
def test_layers_are_read_in_one_pass_that_ends_with_the_last_of_them() -> None:
    generator = tiny("concat")
    calls: list[str] = []
    for name, part in generator.named_modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda *_, name=name: calls.append(name))
    generator.content.layers(pictures())
    read = ["first", "down1", "down2", *[f"blocks.{n}.conv{m}" for n in range(3) for m in (1, 2)]]
    assert calls == [f"content.{name}" for name in read]
    calls.clear()
    generator.paint(pictures(), torch.randn(2, 6))
    assert len(calls) == len(set(calls)) == 3 + 2 * 5 + 2  # up1 is computed in two parts


@pytest.mark.parametrize("size", [(8, 8), (8, 44), (36, 20)])
@pytest.mark.parametrize("enters", ENTERS)
def test_any_sides_that_are_multiples_of_4(size: tuple[int, int], enters: Enters) -> None:
    x = pictures(1, *size)
    y = tiny(enters)(x, torch.randn(1, 6))
    assert y.shape == x.shape
    assert y.abs().max() <= 1


def test_a_picture_does_not_depend_on_its_batch() -> None:
    generator = tiny("film")
    shaken(generator)
    x, heard = pictures(3), torch.randn(3, 6)
    alone = generator(x[1:2], heard[1:2])
    torch.testing.assert_close(generator(x, heard)[1:2], alone, rtol=0, atol=1e-4)


# what the sound changes


def change(generator: Generator, inside: int) -> float:
    """RMS by which another sound changes the picture, `inside` px from its edge, against the RMS
    of that part."""
    x = pictures(1, 96, 96)
    with torch.no_grad():
        a, b = (generator(x, torch.randn(1, 16)) for _ in range(2))
    if inside:
        a, b = (y[:, :, inside:-inside, inside:-inside] for y in (a, b))
    return ((a - b).square().mean() / a.square().mean()).sqrt().item()


def test_concat_hardly_hears() -> None:
    """A constant map that is convolved is constant inside, and the norm subtracts it."""
    generator = Generator(width=8, sound_dim=16, blocks=3)
    before: list[Tensor] = []
    generator.drawing.norm1.register_forward_pre_hook(lambda _, args: before.append(args[0]))
    inside = change(generator, inside=16)
    a, b = before
    assert ((a - b).square().mean() / a.square().mean()).sqrt() > 0.3
    assert 0 < inside < 0.05


def test_film_starts_deaf_and_hears_all_over_once_it_has_weights() -> None:
    generator = Generator(width=8, sound_dim=16, blocks=3, enters="film")
    assert change(generator, inside=0) == 0
    for part in generator.modules():
        if isinstance(part, Norm) and part.film is not None:
            nn.init.normal_(part.film.weight, std=0.1)
    assert change(generator, inside=16) > 0.3


def test_film_learns_from_its_first_gradient() -> None:
    generator = tiny("film")
    heard = torch.randn(2, 6, requires_grad=True)
    generator(pictures(), heard).square().mean().backward()
    listening = [m for m in generator.modules() if isinstance(m, Norm) and m.film is not None]
    assert len(listening) == 2 * 2 + 2  # of the two blocks behind the third, and of the decoder
    assert all(m.film.weight.grad.any() for m in listening)  # type: ignore[union-attr]
    assert heard.grad is not None


@pytest.mark.parametrize("sound", ["early", "late"])
def test_scores_of_patches_depend_on_picture_and_sound_together(sound: Hears) -> None:
    """Not as a sum of two scores, which could not tell which sound goes with which picture."""
    discriminator = Discriminator(width=8, sound=sound, sound_dim=16)
    shaken(discriminator)
    x, y = pictures(2, 64, 64).split(1)
    a, b = (torch.rand(2, 1, 65, 64) * 9 if sound == "early" else torch.randn(2, 16)).split(1)
    with torch.no_grad():
        effects = [discriminator(p, a) - discriminator(p, b) for p in (x, y)]
    assert (effects[0] - effects[1]).abs().max() > 0.01


# what is refused


def test_what_cannot_be_built_or_fed_is_explained() -> None:
    with pytest.raises(ValueError, match="enters must be one of concat, film, none, got 'add'"):
        Generator(enters="add")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blocks must be at least 3"):
        Generator(blocks=2)
    with pytest.raises(ValueError, match="sound must be one of early, late, none"):
        Discriminator(sound="middle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"multiples of 4 from 8 px on, got 16 × 18; pad"):
        tiny("concat")(pictures(1, 16, 18), torch.randn(1, 6))
    for enters in ("concat", "film"):
        with pytest.raises(ValueError, match=r"needs what is heard, \[B, sound_dim\], got None"):
            tiny(enters)(pictures())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sound 'none' got \[1, 6\]"):
        Discriminator(width=4, sound="none")(pictures(1), torch.randn(1, 6))
