"""IC-GAN: published sizes, a plain float64 forward pass, the published checkpoint's layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from avdata.errors import WeightsError
from stages.sound2scene.biggan_layers import SpectralConv2d, spectral_weight
from stages.sound2scene.icgan import (
    Discriminator,
    Generator,
    discriminator_sides,
    generator_sides,
)
from stages.sound2scene.published_icgan import (
    from_published,
    load_discriminator,
    load_generator,
    to_published,
)
from tests.stages.sound2scene.published_biggan import discriminate, generate

TINY = {"resolution": 32, "channels": 8, "feature_dim": 24, "attention_px": (16,)}
UNUSED_CLASS_EMBEDDING = 1000 * 128  # counted in the published figures of the generator


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def tiny_generator() -> Generator:
    return Generator(**TINY, z_dim=16, embed_dim=12)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def shaken(module: nn.Module) -> nn.Module:
    """The module with every parameter and statistic moved, as training would."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not name.endswith(".u"):
                value.add_(0.2 * torch.rand_like(value))
    return module.eval()


@pytest.mark.parametrize(
    ("channels", "generator", "discriminator"),
    [(96, 77_160_132, 89_593_634), (64, 36_812_420, 40_522_434)],
)
def test_published_parameter_counts(channels: int, generator: int, discriminator: int) -> None:
    with torch.device("meta"):
        assert count(Generator(channels=channels)) + UNUSED_CLASS_EMBEDDING == generator
        assert count(Discriminator(channels=channels)) == discriminator


def test_published_chunk_and_condition_sizes() -> None:
    with torch.device("meta"):
        generator = Generator()
    assert generator.first.weight.shape == (16 * 96 * 16, 20)
    assert generator.blocks[0].bn1.gain.weight.shape == (16 * 96, 20 + 512)
    assert list(generator.attentions) == ["3"]  # after the block that ends at 64 × 64


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_shapes_and_ranges(resolution: int) -> None:
    sizes = {"resolution": resolution, "channels": 4, "feature_dim": 8, "attention_px": ()}
    generator, discriminator = Generator(**sizes, z_dim=60, embed_dim=6), Discriminator(**sizes)
    h = torch.randn(3, 8)
    x = generator(torch.randn(3, 60), h)
    assert x.shape == (3, 3, resolution, resolution)
    assert x.abs().max() <= 1
    assert discriminator(x, h).shape == (3,)


def test_generator_equals_the_plain_float64_forward() -> None:
    generator = shaken(tiny_generator())
    z, h = torch.randn(4, 16, dtype=torch.float64), torch.randn(4, 24, dtype=torch.float64)
    state = {k: v.double() for k, v in to_published(generator.state_dict(), "generator").items()}
    with torch.no_grad():
        ours = generator(z.float(), h.float())
    torch.testing.assert_close(ours.double(), generate(state, z, h), rtol=1e-4, atol=1e-5)


def test_discriminator_equals_the_plain_float64_forward() -> None:
    discriminator = shaken(Discriminator(**TINY))
    x, h = torch.rand(4, 3, 32, 32).double() * 2 - 1, torch.randn(4, 24).double()
    state = discriminator.state_dict()
    state = {k: v.double() for k, v in to_published(state, "discriminator").items()}
    with torch.no_grad():
        ours = discriminator(x.float(), h.float())
    reference = discriminate(state, x, h, halvings=2)
    torch.testing.assert_close(ours.double(), reference, rtol=1e-4, atol=1e-4)


def test_power_iteration_converges_to_the_largest_singular_value() -> None:
    weight, u = torch.randn(12, 5, 3, 3), nn.functional.normalize(torch.randn(12), dim=0)
    for _ in range(200):
        normalised = spectral_weight(weight, u, update=True)
    assert torch.linalg.svdvals(normalised.flatten(1))[0] == pytest.approx(1, abs=1e-5)


def test_the_gradient_goes_through_the_singular_value() -> None:
    # With a converged u the function is W / σ(W), which torch's SVD can differentiate too.
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    u, mix = torch.randn(4, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    for _ in range(500):
        spectral_weight(weight.detach(), u, update=True)
    (ours,) = torch.autograd.grad((mix * spectral_weight(weight, u, False)).sum(), weight)
    exact = weight / torch.linalg.svdvals(weight)[0]
    (reference,) = torch.autograd.grad((mix * exact).sum(), weight)
    torch.testing.assert_close(ours, reference)


def test_evaluation_leaves_the_singular_vectors_alone() -> None:
    layer = SpectralConv2d(3, 5)
    before = layer.u.clone()
    layer.eval()(torch.randn(1, 3, 4, 4))
    assert torch.equal(layer.u, before)
    layer.train()(torch.randn(1, 3, 4, 4))
    assert not torch.equal(layer.u, before)


def test_the_singular_value_stays_float32_under_bfloat16_autocast() -> None:
    layer = SpectralConv2d(16, 16).eval()
    with torch.autocast("cpu", torch.bfloat16):
        inside = spectral_weight(layer.weight, layer.u, update=False)
    assert torch.equal(inside, spectral_weight(layer.weight, layer.u, update=False))


def test_weights_start_orthogonal() -> None:
    weight = SpectralConv2d(32, 8).weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), rtol=0, atol=1e-5)


def test_attention_starts_as_the_identity() -> None:
    with_attention, without = tiny_generator(), Generator(**TINY | {"attention_px": ()}, z_dim=16)
    attention = with_attention.attentions["1"]
    x = torch.randn(2, 32, 16, 16)
    assert torch.equal(attention(x), x)
    assert not without.attentions


# Published names ---------------------------------------------------------------------------------

SPECTRAL = ("weight", "u0", "sv0")
ATTENTION = ("theta", "phi", "g", "o")


def published_keys(*, blocks: int, attention: dict[int, int], generator: bool) -> set[str]:
    """The names in a published state dict, listed by hand from the public code."""
    linears = (
        ("shared_feat", "linear", "output_layer.2") if generator else ("linear", "linear_feat")
    )
    keys = {f"{layer}.{leaf}" for layer in linears for leaf in (*SPECTRAL, "bias")}
    for n in range(blocks):
        convs = ("conv1", "conv2", "conv_sc") if generator or n < blocks - 1 else ("conv1", "conv2")
        keys |= {f"blocks.{n}.0.{c}.{leaf}" for c in convs for leaf in (*SPECTRAL, "bias")}
        if generator:
            for norm in ("bn1", "bn2"):
                keys |= {f"blocks.{n}.0.{norm}.stored_{s}" for s in ("mean", "var")}
                keys |= {f"blocks.{n}.0.{norm}.{p}.{x}" for p in ("gain", "bias") for x in SPECTRAL}
    for n in attention:
        keys |= {f"blocks.{n}.1.{c}.{leaf}" for c in ATTENTION for leaf in SPECTRAL}
        keys.add(f"blocks.{n}.1.gamma")
    if generator:
        keys.add("shared.weight")
        keys |= {f"output_layer.0.{x}" for x in ("gain", "bias", "stored_mean", "stored_var")}
    return keys


def test_published_names_of_the_paper_s_networks() -> None:
    with torch.device("meta"):
        generator, discriminator = Generator().state_dict(), Discriminator().state_dict()
    theirs = to_published(generator, "generator")
    assert set(theirs) == published_keys(blocks=5, attention={3: 64}, generator=True)
    assert theirs["blocks.3.1.theta.u0"].shape == (1, 192 // 8)
    assert theirs["blocks.0.0.bn2.bias.weight"].shape == (1536, 532)
    theirs = to_published(discriminator, "discriminator")
    assert set(theirs) == published_keys(blocks=6, attention={0: 64}, generator=False)
    assert theirs["linear_feat.weight"].shape == (1536, 2048)


def across_replicas(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as synchronised training stores them: norms in `bn`, a prefix on all."""
    changed = {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if leaf in ("stored_mean", "stored_var"):
            name = f"{layer}.bn.running_{leaf.removeprefix('stored_')}"
            changed[f"module.{layer}.bn.num_batches_tracked"] = torch.tensor(7)
        elif layer == "output_layer.0":
            name = f"{layer}.bn.{'weight' if leaf == 'gain' else 'bias'}"
        changed[f"module.{name}"] = value
    return changed


@pytest.mark.parametrize("replicas", [False, True])
def test_a_published_generator_loads_with_sizes_from_its_shapes(
    tmp_path: Path, replicas: bool
) -> None:
    original = shaken(tiny_generator())
    state = to_published(original.state_dict(), "generator")
    state["blocks.0.0.conv1.sv0"] = torch.full((1,), 9.0)
    state["shared.weight"] = torch.randn(1000, 128)
    torch.save(across_replicas(state) if replicas else state, tmp_path / "G_ema.pth")
    loaded = load_generator(tmp_path / "G_ema.pth")
    assert not loaded.training
    z, h = torch.randn(2, 16), torch.randn(2, 24)
    with torch.no_grad():
        assert torch.equal(loaded(z, h), original(z, h))
        plain = generate(state, z, h)
    torch.testing.assert_close(loaded(z, h), plain, rtol=1e-3, atol=1e-4)


def test_a_published_discriminator_loads_with_sizes_from_its_shapes(tmp_path: Path) -> None:
    original = shaken(Discriminator(**TINY))
    torch.save(to_published(original.state_dict(), "discriminator"), tmp_path / "D.pth")
    loaded = load_discriminator(tmp_path / "D.pth").eval()
    x, h = torch.randn(2, 3, 32, 32), torch.randn(2, 24)
    with torch.no_grad():
        assert torch.equal(loaded(x, h), original(x, h))


def test_round_trip_keeps_every_weight() -> None:
    state = shaken(tiny_generator()).state_dict()
    back = from_published(to_published(state, "generator"), "generator")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_wrong_checkpoints_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "G.pth"
    with pytest.raises(WeightsError, match="does not exist"):
        load_generator(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="cannot read the checkpoint"):
        load_generator(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="no plain state dict"):
        load_generator(path)
    torch.save({"layer1.0.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="is no layer of this network"):
        load_generator(path)
    state = to_published(tiny_generator().state_dict(), "generator")
    state["blocks.0.0.bn1.gain.weight"] = torch.zeros(32, 144)  # also conditioned on a class
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"size mismatch.*bn1\.gain"):
        load_generator(path)
    del state["linear.weight"]
    torch.save(state, path)
    with pytest.raises(WeightsError, match="not an instance-conditioned generator"):
        load_generator(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"z_dim": 119}, "multiple of 6"),
        ({"resolution": 100}, "resolution must be one of"),
        ({"attention_px": (48,)}, "attention_px"),
        ({"resolution": 32, "channels": 1, "z_dim": 16, "attention_px": (32,)}, "8 channels"),
    ],
)
def test_sizes_that_do_not_fit_are_explained(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        Generator(**settings)


def test_a_discriminator_leaves_no_attention_out() -> None:
    with pytest.raises(ValueError, match=r"attention_px \[64\] is none of the sides \[32, 16"):
        Discriminator(resolution=64, attention_px=(64,))


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_the_sides_at_which_blocks_end(resolution: int) -> None:
    """Beside what the networks make of a picture."""
    seen: dict[str, list[int]] = {"generator": [], "discriminator": []}
    small = {"resolution": resolution, "channels": 1, "feature_dim": 4, "attention_px": ()}
    generator, discriminator = Generator(**small, z_dim=420), Discriminator(**small)
    for sides, network in zip(seen.values(), (generator, discriminator), strict=True):
        for block in network.blocks:
            block.register_forward_hook(lambda *call, to=sides: to.append(call[-1].shape[-1]))
    h = torch.zeros(2, 4)
    discriminator(generator(torch.zeros(2, 420), h), h)
    assert generator_sides(resolution) == seen["generator"]
    assert discriminator_sides(resolution) == seen["discriminator"]
