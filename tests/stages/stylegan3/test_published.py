"""The published layout of StyleGAN3, as a converted file and as a pickle; others are refused."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from avdata.errors import WeightsError
from stages.stylegan2 import generator as stylegan2
from stages.stylegan3.generator import Generator
from stages.stylegan3.published import load_generator
from tests.stages.stylegan2.test_published import SIZES, as_objects, nvidia

TINY = {"resolution": 32, "z_dim": 8, "w_dim": 12, "base": 256, "most": 16}


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    made = Generator(**TINY).eval()
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    return made


def published(generator: Generator) -> dict[str, Tensor]:
    """Return its tensors as NVIDIA's G_ema names them."""
    found = {"mapping.w_avg": generator.mapping.w_mean}
    for number, layer in enumerate(generator.mapping.layers):
        found[f"mapping.fc{number}.weight"] = layer.weight
        found[f"mapping.fc{number}.bias"] = layer.bias
    for name, value in generator.synthesis.waves.state_dict().items():
        found[f"synthesis.input.{name}"] = value
    for number, (layer, band) in enumerate(
        zip(generator.synthesis.layers, generator.plan, strict=True)
    ):
        at = f"synthesis.L{number}_{band.side}_{band.channels}"
        for name, value in layer.state_dict().items():
            found[f"{at}.{name}"] = value
        if number < len(generator.plan) - 1:
            found[f"{at}.up_filter"] = layer.filtered.up_taps / layer.filtered.up
            found[f"{at}.down_filter"] = layer.filtered.down_taps
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def test_names_are_those_of_the_published_generator() -> None:
    """The layers of stylegan3-t-ffhq-1024x1024, as others have printed them."""
    with torch.device("meta"):
        names = published(Generator(resolution=1024))
    layers = list(dict.fromkeys(n.split(".")[1] for n in names if n.startswith("synthesis.L")))
    assert " ".join(layers) == (
        "L0_36_512 L1_36_512 L2_52_512 L3_52_512 L4_84_512 L5_148_512 L6_148_512 L7_276_323 "
        "L8_276_203 L9_532_128 L10_1044_81 L11_1044_51 L12_1044_32 L13_1024_32 L14_1024_3"
    )
    assert names["synthesis.L2_52_512.up_filter"].shape == (24,)
    assert names["synthesis.input.affine.weight"].shape == (4, 512)


@pytest.mark.parametrize("kind", ["converted", "pickle"])
def test_each_file_gives_the_same_pictures(kind: str, generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / ("g.safetensors" if kind == "converted" else "g.pkl")
    if kind == "converted":
        save_file(published(generator), path)
    else:
        network = as_objects(published(generator))
        network.in_cutoff = np.float64(2.5)  # type: ignore[attr-defined]  # which layers remember
        try:
            path.write_bytes(pickle.dumps({"G_ema": network}))
        finally:
            del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]
    loaded = load_generator(path)
    assert isinstance(loaded, Generator)
    assert loaded.n_latents == 16
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(z, 0.7), generator(z, 0.7))


def test_a_stylegan2_is_told_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = stylegan2.Generator(**SIZES)
    save_file(nvidia(other), tmp_path / "two.safetensors")
    assert isinstance(load_generator(tmp_path / "two.safetensors"), stylegan2.Generator)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("synthesis.L3_36_16.bias", None, r"layers\.3\.bias is missing"),
        ("synthesis.L5_52_16.down_filter", lambda t: t * 1.1, "not that of configuration T"),
        ("synthesis.L5_52_16.down_filter", lambda t: torch.outer(t, t), "not that of config"),
        ("synthesis.L5_52_16.up_filter", None, "the up-sampling filter of synthesis.layers.5"),
        ("synthesis.L0_36_16.weight", lambda t: t[..., :1, :1], "as a StyleGAN3-R's"),
        ("mapping.fc0.weight", None, "fc0"),
    ],
)
def test_what_does_not_fit_is_named(
    name: str, change: object, says: str, generator: Generator, tmp_path: Path
) -> None:
    tensors = published(generator)
    value = tensors.pop(name)
    if callable(change):
        tensors[name] = change(value).contiguous()
    save_file(tensors, tmp_path / "changed.safetensors")
    with pytest.raises(WeightsError, match=says):
        load_generator(tmp_path / "changed.safetensors")
