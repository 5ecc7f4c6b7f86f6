"""Both published layouts give the same pictures; pickles that would run code are refused."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from avdata.errors import WeightsError
from stages.stylegan2.generator import Generator
from stages.stylegan2.published import load_generator

SIZES = {"resolution": 32, "z_dim": 8, "w_dim": 12, "mapping_layers": 3, "base": 256, "most": 16}


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    made = Generator(**SIZES).eval()
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape))
    return made


def nvidia(generator: Generator) -> dict[str, Tensor]:
    """Return its tensors as NVIDIA's G_ema names them."""
    found = {"mapping.w_avg": generator.mapping.w_mean}
    for number, layer in enumerate(generator.mapping.layers):
        found[f"mapping.fc{number}.weight"] = layer.weight
        found[f"mapping.fc{number}.bias"] = layer.bias
    found["synthesis.b4.const"] = generator.synthesis.const
    layers = [("b4.conv1", generator.synthesis.first), ("b4.torgb", generator.synthesis.to_rgb)]
    for block, side in zip(generator.synthesis.blocks, (8, 16, 32), strict=False):
        layers += [(f"b{side}.conv0", block.up), (f"b{side}.conv1", block.same)]
        layers += [(f"b{side}.torgb", block.to_rgb)]
    for name, layer in layers:
        at = f"synthesis.{name}"
        found[f"{at}.weight"] = layer.conv.weight
        found[f"{at}.bias"] = layer.bias
        found[f"{at}.affine.weight"] = layer.conv.affine.weight
        found[f"{at}.affine.bias"] = layer.conv.affine.bias
        if "conv" in name:
            found[f"{at}.noise_strength"] = layer.noise_gain
            found[f"{at}.noise_const"] = layer.noise
            found[f"{at}.resample_filter"] = torch.ones(4, 4)
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def port(generator: Generator) -> dict[str, Tensor]:
    """Return its tensors as the PyTorch port's g_ema names and shapes them."""
    found: dict[str, Tensor] = {"input.input": generator.synthesis.const[None]}
    for number, layer in enumerate(generator.mapping.layers, 1):
        found[f"style.{number}.weight"], found[f"style.{number}.bias"] = layer.weight, layer.bias
    layers = [generator.synthesis.first]
    rgbs = [("to_rgb1", generator.synthesis.to_rgb)]
    for number, block in enumerate(generator.synthesis.blocks):
        layers += [block.up, block.same]
        rgbs.append((f"to_rgbs.{number}", block.to_rgb))
        found[f"to_rgbs.{number}.upsample.kernel"] = torch.ones(4, 4)
    for number, layer in enumerate(layers):
        at = "conv1" if number == 0 else f"convs.{number - 1}"
        found[f"{at}.conv.weight"] = layer.conv.weight[None]
        found[f"{at}.conv.modulation.weight"] = layer.conv.affine.weight
        found[f"{at}.conv.modulation.bias"] = layer.conv.affine.bias
        found[f"{at}.noise.weight"] = layer.noise_gain.reshape(1)
        found[f"{at}.activate.bias"] = layer.bias
        found[f"noises.noise_{number}"] = layer.noise[None, None]
        if number % 2:
            found[f"{at}.conv.blur.kernel"] = torch.ones(4, 4)
    for at, layer in rgbs:
        found[f"{at}.conv.weight"] = layer.conv.weight[None]
        found[f"{at}.conv.modulation.weight"] = layer.conv.affine.weight
        found[f"{at}.conv.modulation.bias"] = layer.conv.affine.bias
        found[f"{at}.bias"] = layer.bias.reshape(1, 3, 1, 1)
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def as_objects(tensors: dict[str, Tensor]) -> object:
    """Return nested objects whose pickle is laid out as NVIDIA's: classes with their source."""
    persistence = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta: dict[str, object]) -> object:
        raise AssertionError("a safe reader never calls it")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    sys.modules["torch_utils"] = types.ModuleType("torch_utils")
    sys.modules["torch_utils.persistence"] = persistence

    class Network:
        def __init__(self) -> None:
            self._parameters: OrderedDict[str, object] = OrderedDict()
            self._buffers: OrderedDict[str, object] = OrderedDict()
            self._modules: OrderedDict[str, object] = OrderedDict()

        def __reduce__(self) -> tuple[object, ...]:
            meta = {"type": "class", "version": 6, "module_src": "import os", "class_name": "G"}
            return _reconstruct_persistent_obj, ({**meta, "state": dict(self.__dict__)},)

    root = Network()
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        at = root
        for part in path:
            at = at._modules.setdefault(part, Network())  # type: ignore[assignment]
        if "noise_const" in leaf or "filter" in leaf or leaf == "w_avg":
            at._buffers[leaf] = tensor
        else:
            at._parameters[leaf] = torch.nn.Parameter(tensor)
    return root


@pytest.fixture
def files(generator: Generator, tmp_path: Path) -> dict[str, Path]:
    """The same generator in all layouts."""
    save_file(nvidia(generator), tmp_path / "converted.safetensors")
    checkpoint = {"g_ema": port(generator), "latent_avg": generator.mapping.w_mean.clone()}
    torch.save(checkpoint, tmp_path / "port.pt")
    network = as_objects(nvidia(generator))
    try:
        with (tmp_path / "nvidia.pkl").open("wb") as file:
            pickle.dump({"G": None, "D": None, "G_ema": network}, file)
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]
    return {path.name: path for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["converted.safetensors", "port.pt", "nvidia.pkl"])
def test_each_layout_gives_the_same_pictures(
    name: str, files: dict[str, Path], generator: Generator
) -> None:
    loaded = load_generator(files[name])
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(z).pictures, generator(z).pictures)
        torch.testing.assert_close(loaded.latents(z, 0.7), generator.latents(z, 0.7))


def test_what_does_not_fit_is_named(files: dict[str, Path], tmp_path: Path) -> None:
    tensors = torch.load(files["port.pt"], weights_only=True)
    del tensors["g_ema"]["convs.1.activate.bias"]
    torch.save(tensors, tmp_path / "hole.pt")
    with pytest.raises(WeightsError, match=r"blocks\.0\.same\.bias is missing"):
        load_generator(tmp_path / "hole.pt")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no StyleGAN2 generator in a known layout"):
        load_generator(tmp_path / "other.pt")
    (tmp_path / "broken.pkl").write_bytes(files["nvidia.pkl"].read_bytes()[:500])
    with pytest.raises(WeightsError, match="damaged"):
        load_generator(tmp_path / "broken.pkl")


class Nasty:
    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("__import__('pathlib').Path('ran').touch()",)


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "nasty.pkl"
    path.write_bytes(pickle.dumps({"G_ema": Nasty()}))
    with pytest.raises(WeightsError, match=r"asks for builtins.eval.*save_file"):
        load_generator(path)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(pickle.dumps({"D": OrderedDict()}))
    with pytest.raises(WeightsError, match="holds no network G_ema, only D"):
        load_generator(path)
