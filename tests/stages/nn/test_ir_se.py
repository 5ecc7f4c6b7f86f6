"""IR-SE-50: its published size and layout, and a gradient that reaches the latent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from avdata.errors import WeightsError
from stages.losses.manipulation import identity_distance
from stages.nn.ir_se import FaceIdentity, IrSe50, Unit, load_identity
from stages.stylegan2.generator import Generator


@pytest.fixture(scope="module")
def network() -> IrSe50:
    torch.manual_seed(0)
    return IrSe50().eval()


def published() -> dict[str, torch.Tensor]:
    """A random checkpoint in the layout of model_ir_se50.pth, written out by hand."""
    tensors: dict[str, torch.Tensor] = {}

    def norm(name: str, n: int) -> None:
        for part in ("weight", "bias", "running_mean"):
            tensors[f"{name}.{part}"] = 0.1 * torch.randn(n) + (part == "weight")
        tensors[f"{name}.running_var"] = torch.rand(n) + 0.5
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    tensors["input_layer.0.weight"] = 0.2 * torch.randn(64, 3, 3, 3)
    norm("input_layer.1", 64)
    tensors["input_layer.2.weight"] = torch.full((64,), 0.25)
    depth, unit = 64, 0
    for out, count in ((64, 3), (128, 4), (256, 14), (512, 3)):
        for _ in range(count):
            own = f"body.{unit}"
            if depth != out:
                tensors[f"{own}.shortcut_layer.0.weight"] = 0.1 * torch.randn(out, depth, 1, 1)
                norm(f"{own}.shortcut_layer.1", out)
            norm(f"{own}.res_layer.0", depth)
            tensors[f"{own}.res_layer.1.weight"] = 0.03 * torch.randn(out, depth, 3, 3)
            tensors[f"{own}.res_layer.2.weight"] = torch.full((out,), 0.25)
            tensors[f"{own}.res_layer.3.weight"] = 0.03 * torch.randn(out, out, 3, 3)
            norm(f"{own}.res_layer.4", out)
            tensors[f"{own}.res_layer.5.fc1.weight"] = 0.1 * torch.randn(out // 16, out, 1, 1)
            tensors[f"{own}.res_layer.5.fc2.weight"] = 0.1 * torch.randn(out, out // 16, 1, 1)
            depth, unit = out, unit + 1
    norm("output_layer.0", 512)
    tensors["output_layer.3.weight"] = 0.01 * torch.randn(512, 512 * 7 * 7)
    tensors["output_layer.3.bias"] = torch.zeros(512)
    norm("output_layer.4", 512)
    return tensors


def test_it_has_the_published_size(network: IrSe50) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 43_797_696


def test_the_published_layout_loads(tmp_path: Path) -> None:
    torch.manual_seed(1)
    tensors = published()
    torch.save(tensors, tmp_path / "model_ir_se50.pth")
    found = load_identity(tmp_path / "model_ir_se50.pth").network.state_dict()
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(found[name], value), name
    torch.save({"output_layer.3.weight": torch.zeros(4)}, tmp_path / "other.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit IrSe50.*input_layer\.0\.weight is missing"
    ):
        load_identity(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=re.escape("nowhere.pth does not exist")):
        load_identity(tmp_path / "nowhere.pth")


def test_a_unit_by_hand() -> None:
    torch.manual_seed(0)
    unit = Unit(32, 32, 2).double().eval()
    for layer in (unit.res_layer[0], unit.res_layer[4]):
        torch.nn.init.normal_(layer.running_mean)  # type: ignore[arg-type]
        torch.nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
    x = torch.randn(2, 32, 6, 6, dtype=torch.float64)
    state = {name: value.double() for name, value in unit.state_dict().items()}

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, gain, bias = (
            state[f"res_layer.{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * gain + bias

    y = F.conv2d(norm(x, "0"), state["res_layer.1.weight"], padding=1)
    y = torch.where(y > 0, y, state["res_layer.2.weight"][:, None, None] * y)
    y = norm(F.conv2d(y, state["res_layer.3.weight"], stride=2, padding=1), "4")
    squeezed = y.mean(dim=(2, 3)) @ state["res_layer.5.fc1.weight"][:, :, 0, 0].T
    scale = 1 / (1 + (-squeezed.clamp(min=0) @ state["res_layer.5.fc2.weight"][..., 0, 0].T).exp())
    expected = y * scale[:, :, None, None] + x[:, :, ::2, ::2]
    with torch.no_grad():
        torch.testing.assert_close(unit(x), expected)


def test_faces_are_cropped_where_they_are(network: IrSe50) -> None:
    """What lies outside rows 35–222 and columns 32–219 of 256 changes nothing."""
    seen = []
    face = FaceIdentity(network)
    handle = network.input_layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pictures = torch.rand(1, 3, 256, 256) * 2 - 1
    framed = pictures.clone()
    framed[:, :, 35:223, 32:220] = 0
    with torch.no_grad():
        one = face(pictures)
        face(framed)
        big = face(F.interpolate(pictures, scale_factor=2))  # pooled, every block its mean
    handle.remove()
    assert seen[0].shape == (1, 3, 112, 112)
    # Of 188 pixels the first cell of 112 is the mean of pixels 0 and 1.
    first = pictures[0, :, 35:37, 32:34].mean(dim=(1, 2))
    torch.testing.assert_close(seen[0][0, :, 0, 0], first)
    assert (seen[1] == 0).all()
    torch.testing.assert_close(big, one)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(1))


def test_the_gradient_reaches_the_latent(network: IrSe50) -> None:
    """It would be none if the moved face were detached in the place of the source's."""
    torch.manual_seed(0)
    generator = Generator(resolution=16, z_dim=8, w_dim=8, mapping_layers=1, base=128, most=8)
    face = FaceIdentity(network)
    ws = generator.latents(torch.randn(2, 8)).detach()
    moved = (ws + 0.5 * torch.randn(ws.shape)).requires_grad_()
    with torch.no_grad():
        source = face(generator.synthesis(ws))
    loss = identity_distance(face(generator.synthesis(moved)), source)
    (gradient,) = torch.autograd.grad(loss.sum(), moved)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    # Along it the faces come nearer to each other again.
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        nearer = identity_distance(face(generator.synthesis(moved - step)), source)
    assert nearer.sum() < loss.sum()
    assert all(parameter.grad is None for parameter in network.parameters())
