"""AdaIN's training: losses add up, one batch is overfitted, the schedule, the product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from avdata.store import sha256_file
from stages.adain.model import AdaIn
from stages.adain.stylist import open_stylist
from stages.engine.checkpoint import load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.engine.optim import adam
from stages.family import Opening
from stages.generation.inputs import Picture
from stages.generation.painter import Ask
from stages.nn.vgg import Vgg19
from stages.train_adain import Settings, losses, train

NAME = "train_adain"


@pytest.fixture
def pipeline(tmp_path: Path, shards: Path) -> Path:
    path = tmp_path / "adain.yaml"
    path.write_text(f"""
name: adain
output: {tmp_path / "run"}
stages:
  {NAME}:
    train: {{steps: 3, batch_size: 4, log_every: 1, shards: {shards}, device: cpu}}
    encoder: random
    width: 4
    levels: 3
    load_px: 24
    crop_px: 16
""")
    return path


def run_here(pipeline: Path, *overrides: str) -> Path:
    words = [str(pipeline)]
    for text in overrides:
        words += ["--set", f"stages.{NAME}.{text}"]
    launch(NAME, Settings, train, words)
    return pipeline.parent / "run/stages" / NAME


def test_the_curve_the_schedule_and_the_product(pipeline: Path) -> None:
    folder = run_here(pipeline, "lr=0.001", "lr_decay=0.5", "style_weight=3")
    lines = read_metrics(folder)
    assert [line["lr"] for line in lines] == pytest.approx([0.001, 0.001 / 1.5, 0.001 / 2])
    for line in lines:
        assert line["loss"] == pytest.approx(line["content"] + 3 * line["style"], rel=1e-5)
    stylist = open_stylist(Opening(run=pipeline.parent / "run", device="cpu"))
    assert stylist.resolution_px == 16
    assert stylist.sources["adain"]["sha256"] == sha256_file(folder / "model.safetensors")
    red, blue = (np.full((40, 30, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    asks = [
        Ask(key="a", picture=Picture("red", red), style=Picture("blue", blue)),
        Ask(key="b", picture=Picture("blue", blue), style=Picture("blue", blue)),
    ]
    both = stylist.paint(asks, seed=0)
    assert both.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(both[1:], stylist.paint(asks[1:], seed=1))


def test_the_decoder_learns_and_the_encoder_stays(pipeline: Path) -> None:
    before = load_weights(run_here(pipeline, "train.steps=1"))[1]
    longer = pipeline.with_name("longer.yaml")
    longer.write_text(pipeline.read_text().replace("/run\n", "/longer\n"))
    run_here(longer)
    after = load_weights(pipeline.parent / "longer/stages" / NAME)[1]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoder.") for name in before)
    assert moved == {name for name in before if name.startswith("decoder.")}


def test_one_batch_is_overfitted() -> None:
    """Two pictures and two styles: the pictures come to have the styles' colours and contrast."""
    torch.manual_seed(0)
    network = AdaIn(width=16, levels=2, side_px=16)
    content = torch.rand(2, 3, 16, 16) - 0.5
    colours = torch.tensor([[0.6, 0.0, -0.4], [-0.4, 0.2, 0.5]])
    texture = F.avg_pool2d(0.6 * torch.randn(2, 3, 16, 16), 3, 1, 1)
    style = colours[..., None, None] + texture
    optimizer = adam(network, lr=0.005)
    first = losses(network(content, style), 10)
    for _ in range(200):
        optimizer.zero_grad()
        found = losses(network(content, style), 10)
        found["loss"].backward()
        optimizer.step()
    assert found["style"] < 0.02 * first["style"]
    assert found["loss"] < 0.05 * first["loss"]
    with torch.no_grad():
        made = network.restyle(content, style)
    assert (made.mean(dim=(2, 3)) - style.mean(dim=(2, 3))).abs().max() < 0.15


def test_published_weights_are_taken(pipeline: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    names = {0: "conv1_1", 2: "conv1_2", 5: "conv2_1", 7: "conv2_2", 10: "conv3_1"}
    names |= {12: "conv3_2", 14: "conv3_3", 16: "conv3_4", 19: "conv4_1"}
    published = Vgg19(kind="torchvision")
    state = {
        f"features.{n}.{kind}": getattr(published.get_submodule(name), kind)
        for n, name in names.items()
        for kind in ("weight", "bias")
    }
    torch.save(state, tmp_path / "vgg19.pth")
    text = pipeline.read_text().replace("width: 4", "width: 64").replace("levels: 3", "levels: 4")
    pipeline.write_text(text.replace("encoder: random", f"encoder: {tmp_path / 'vgg19.pth'}"))
    folder = run_here(pipeline, "train.steps=1", "train.batch_size=1")
    found = load_weights(folder)[1]
    torch.testing.assert_close(found["encoder.conv4_1.weight"], published.conv4_1.weight.data)
    assert open_stylist(Opening(parts={"adain": folder}, device="cpu")).network.encoder.kind == (
        "torchvision"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder=/nowhere.pth", "VGG-19 has width 64 and 4 levels"),
        ("crop_px=18", "multiple of 4"),
        ("crop_px=4", "8 at least"),
        ("load_px=8", "load_px 8 must be crop_px 16 or more"),
        ("levels=5", "levels must lie between 1 and 4, got 5"),
        ("lr=-1", "lr must be"),
        ("content_shards=/nowhere", "/nowhere"),
    ],
)
def test_settings_that_cannot_be_met(
    pipeline: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_here(pipeline, override)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
