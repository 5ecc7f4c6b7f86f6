"""Pictures are found again among a generator's latents, and codes are kept in files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from avdata.errors import SettingsError, WeightsError
from stages.nn.pictures import as_pictures
from stages.nn.vgg import Vgg19
from stages.sound_guided.codes import fitting, mixed_layers, read_codes, spread_of
from stages.sound_guided.inversion import (
    Encoded,
    Projector,
    ProjectorSettings,
    also_layers,
    also_seen,
    distance,
    made,
    noise_maps,
    pyramid,
    standardised,
)
from tests.stages.sound_guided.tiny import CPU, Eye, generator, picture


def projector(**changes: object) -> Projector:
    network = generator()
    settings = ProjectorSettings(**{"steps": 120, "lr": 0.1, **changes})  # type: ignore[arg-type]
    return Projector(network, spread_of(network, CPU), settings)


def pictures(*seeds: int) -> torch.Tensor:
    return as_pictures(np.stack([picture(seed).image for seed in seeds]), CPU)


@pytest.mark.parametrize(("space", "share"), [("w", 0.3), ("w+", 0.1)])
def test_own_pictures_are_found_again(space: str, share: float) -> None:
    wanted = pictures(5, 6)
    codes, curve = projector(space=space).search(wanted, ["a", "b"], seed=0)
    assert codes.shape == (2, 6, 8)
    assert curve.shape == (121, 2)
    with torch.no_grad():
        error = distance(pyramid(generator().synthesis(codes)), pyramid(wanted))
    torch.testing.assert_close(error, curve.min(dim=0).values)
    assert (error < share * curve[0]).all()
    alike = (codes == codes[:, :1]).all()
    assert bool(alike) == (space == "w")


def test_noise_can_be_searched_too() -> None:
    """It takes up what the code cannot make, and stays white."""
    network = generator()
    wanted = pictures(5) + 0.2 * torch.randn(
        1, 3, 16, 16, generator=torch.Generator().manual_seed(1)
    )
    spread = spread_of(network, CPU)
    found = {
        weight: Projector(network, spread, ProjectorSettings(steps=60, noise_weight=weight))
        .search(wanted, ["a"], seed=0)[1]
        .min()
        for weight in (0.0, 1e-9, 1e5)
    }
    assert found[1e-9] < found[1e5]
    assert found[1e-9] < 0.9 * found[0.0]
    rngs = [torch.Generator().manual_seed(n) for n in range(2)]
    maps = noise_maps(network, rngs, CPU)
    assert [own.shape[-1] for own in maps.values()] == [4, 8, 8, 16, 16]
    ws = network.latents(torch.randn(2, 8))
    before = [own.clone() for own in network.buffers()]
    made(network, ws, maps)
    assert all(map(torch.equal, before, network.buffers()))
    fixed = {name: own.expand(2, 1, -1, -1) for name, own in network.synthesis.named_buffers()}
    own = {name: value for name, value in fixed.items() if name in maps}
    torch.testing.assert_close(made(network, ws, own), network.synthesis(ws))
    unit = standardised(3 + 2 * torch.randn(2, 1, 8, 8))
    torch.testing.assert_close(unit.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(unit.square().mean(dim=(1, 2, 3)), torch.ones(2))


def test_a_batch_changes_no_picture() -> None:
    together = projector(steps=20).invert(pictures(5, 6, 7), ["a", "b", "c"], seed=3)
    alone = projector(steps=20).invert(pictures(6), ["b"], seed=3)
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-3)
    other = projector(steps=20).invert(pictures(6), ["b"], seed=4)
    assert (other[0] - together[1]).abs().max() > 0.01  # other noise on the way


def test_the_pyramid_compares_means_of_blocks() -> None:
    wanted, other = pictures(5), pictures(6)
    views = pyramid(wanted)
    assert [view.shape[-1] for view in views] == [16, 8]
    blocks = (wanted - other).reshape(1, 3, 8, 2, 8, 2).mean(dim=(3, 5)).square().mean()
    expected = (wanted - other).square().mean() + blocks
    torch.testing.assert_close(distance(views, pyramid(other)), expected[None])


def test_codes_are_read_from_files(tmp_path: Path) -> None:
    network = generator()
    code = torch.randn(3, 6, 8)
    np.save(tmp_path / "a.npy", code.numpy())
    torch.save(code[0], tmp_path / "b.pt")
    save_file({"x": code[1], "y": code[2:]}, tmp_path / "c.safetensors")
    for names, wanted in {
        ("a.npy",): code,
        ("b.pt",): code[:1],
        ("c.safetensors", "b.pt"): code[[1, 2, 0]],
    }.items():
        found = read_codes([tmp_path / name for name in names], network)
        torch.testing.assert_close(found, wanted)


def test_codes_of_another_generator_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "big.npy", np.zeros((18, 8), np.float32))
    with pytest.raises(SettingsError, match=r"big\.npy holds a code of shape \[1, 18, 8\].*16 px"):
        read_codes([tmp_path / "big.npy"], generator())
    with pytest.raises(SettingsError, match="takes 6 latents of 8 numbers"):
        fitting(torch.zeros(6, 512), generator(), "x")
    with pytest.raises(SettingsError, match="not finite"):
        fitting(torch.full((6, 8), torch.nan), generator(), "x")


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('trapped', 'w')",)


def test_files_that_would_run_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("code.pt").write_bytes(pickle.dumps(Trap()))
    np.save("code.npy", np.array([Trap()], object), allow_pickle=True)
    Path("words.pt").write_bytes(b"not a checkpoint")
    for name in ("code.pt", "code.npy", "words.pt", "nowhere.pt", "nowhere.npy"):
        with pytest.raises(WeightsError):
            read_codes([name], generator())
    assert not Path("trapped").exists()


def test_layers_of_two_codes_are_mixed() -> None:
    audio, text = torch.zeros(1, 18, 4), torch.ones(1, 18, 4)
    mixed = mixed_layers(audio, text)
    assert (mixed[:, :9] == 0).all()
    assert (mixed[:, 9:] == 1).all()


def test_features_are_compared_beside_pixels() -> None:
    wanted, other = pictures(5), pictures(6)
    network = Vgg19(width=24, levels=2).eval()
    pixels = distance(pyramid(wanted), pyramid(other))
    with torch.no_grad():
        layers = [network((x + 1) / 2) for x in (wanted, other)]
        own = sum((1 - F.cosine_similarity(a, b)).mean() * 2 for a, b in zip(*layers, strict=True))
        views = also_layers(network)
        together = distance(views(wanted), views(other))
    torch.testing.assert_close(together - pixels, own[None], rtol=1e-3, atol=1e-4)
    eye = Eye()
    with torch.no_grad():
        views = also_seen(eye.seen)
        cosine = (eye.seen(wanted) * eye.seen(other)).sum()
        together = distance(views(wanted), views(other))
    torch.testing.assert_close(together - pixels, 2 - 2 * cosine[None], rtol=1e-3, atol=1e-4)


class Halves(nn.Module):
    """An encoder in whose codes the upper and the lower half of a picture lie."""

    latent_avg = torch.zeros(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-1] == 256
        halves = x.reshape(len(x), 3, 2, 128, 256).mean(dim=(1, 3, 4))  # [B, 2]
        return halves[:, [0, 0, 0, 1, 1, 1], None].expand(-1, -1, 8)


def test_an_encoder_tells_codes_in_one_pass() -> None:
    source = {"file": "e4e.pt", "sha256": "2" * 64}
    found = Encoded(Halves(), generator(), source)  # type: ignore[arg-type]
    codes = found.invert(pictures(5), ["any"], seed=0)
    assert codes.shape == (1, 6, 8)
    upper = pictures(5)[:, :, :8].mean()
    torch.testing.assert_close(codes[0, 0, 0], upper, rtol=0, atol=0.01)
    with pytest.raises(SettingsError, match=r"e4e\.pt holds a code of shape \[1, 6, 8\]"):
        Encoded(Halves(), generator(32), source)  # type: ignore[arg-type]
