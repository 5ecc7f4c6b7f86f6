"""Encoders of the pSp and e4e layout: what is published loads, and adds up as it should."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata.errors import SettingsError, WeightsError
from stages.stylegan2.encoders import PictureEncoder, Style, load_encoder

L = 8


@pytest.fixture(scope="module")
def encoder() -> PictureEncoder:
    torch.manual_seed(0)
    network = PictureEncoder("psp", L).eval()
    torch.nn.init.normal_(network.latent_avg)
    return network


def saved(encoder: PictureEncoder, folder: Path, **changes: object) -> Path:
    """The file as it is published: everything under encoder., the mean beside."""
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items() if k != "latent_avg"}
    state["decoder.style.1.weight"] = torch.zeros(2)  # of the generator that travels with it
    opts = {"encoder_type": "Encoder4Editing", "stylegan_size": 32}
    content = {"state_dict": state, "latent_avg": encoder.latent_avg, "opts": opts} | changes
    torch.save({k: v for k, v in content.items() if v is not None}, folder / "encoder.pt")
    return folder / "encoder.pt"


def test_names_are_the_published_ones(encoder: PictureEncoder) -> None:
    names = encoder.state_dict().keys()
    assert {
        *("input_layer.0.weight", "input_layer.1.running_mean", "input_layer.2.weight"),
        *("body.0.res_layer.5.fc1.weight", "body.3.shortcut_layer.0.weight"),
        *("body.23.res_layer.4.bias", "latlayer1.weight", "latlayer2.bias"),
        *("styles.0.convs.0.weight", "styles.0.convs.6.bias", "styles.0.linear.weight"),
        *("styles.3.convs.8.weight", "styles.7.convs.10.weight", "styles.7.linear.bias"),
    } <= names
    assert "styles.0.convs.8.weight" not in names  # 16 px are halved four times
    assert "styles.7.convs.12.weight" not in names


@pytest.mark.slow
def test_offsets_are_added_to_the_mean(encoder: PictureEncoder, tmp_path: Path) -> None:
    """By hand, from the features of each scale; e4e adds the first offset to all others."""
    pictures = torch.rand(1, 3, 256, 256) * 2 - 1
    e4e = load_encoder(saved(encoder, tmp_path))
    assert (e4e.kind, e4e.n_latents, e4e.training) == ("e4e", L, False)
    with torch.no_grad():
        coarse, middle, fine = encoder.features(pictures)
        assert [f.shape[-1] for f in (coarse, middle, fine)] == [16, 32, 64]
        of = [coarse] * 3 + [middle] * 4 + [fine]
        own = [style(f) for style, f in zip(encoder.styles, of, strict=True)]
        codes = {"psp": encoder(pictures)[0], "e4e": e4e(pictures)[0]}
    for n in range(L):
        torch.testing.assert_close(codes["psp"][n], encoder.latent_avg[n] + own[n][0])
        first = own[0][0] if n else 0
        torch.testing.assert_close(codes["e4e"][n], encoder.latent_avg[n] + first + own[n][0])


def test_a_style_halves_down_to_one_place() -> None:
    torch.manual_seed(0)
    style = Style(4).double()
    x = torch.randn(2, 512, 4, 4, dtype=torch.float64)
    y = x
    state: dict[str, Tensor] = style.state_dict()
    for n in ("0", "2"):
        y = F.conv2d(y, state[f"convs.{n}.weight"], state[f"convs.{n}.bias"], 2, 1)
        y = torch.where(y > 0, y, 0.01 * y)
    expected = y[:, :, 0, 0] @ state["linear.weight"].T / 512**0.5 + state["linear.bias"]
    torch.testing.assert_close(style(x), expected)


def test_what_is_no_encoder_is_refused(encoder: PictureEncoder, tmp_path: Path) -> None:
    few = {"encoder.styles.0.linear.weight": torch.zeros(512, 512)}
    with pytest.raises(SettingsError, match="does not tell whether it is a pSp or an e4e"):
        load_encoder(saved(encoder, tmp_path, opts=None, state_dict=few))
    with pytest.raises(WeightsError, match=r"needs tensors encoder\.\* and latent_avg"):
        load_encoder(saved(encoder, tmp_path, latent_avg=None, state_dict=few))
    with pytest.raises(WeightsError, match=r"does not fit a pSp or e4e.* is missing"):
        load_encoder(saved(encoder, tmp_path, state_dict=few))
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(WeightsError, match="cannot read the checkpoint"):
        load_encoder(tmp_path / "code.pt")
