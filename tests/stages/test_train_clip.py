"""The CLIP trainer as a program: a product that transformers reads, learning, going on, ranks."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from avdata.clip import Selection, Status
from avdata.errors import WeightsError
from avdata.store import Store
from avdata.tables import write_clips
from stages.engine.checkpoint import load_model, load_weights
from stages.engine.launch import launch
from stages.engine.metrics_log import read_metrics
from stages.losses.info_nce import label_info_nce
from stages.pairs.classes import Classes
from stages.pairs.clips import read_clips
from stages.pairs.samples import frames_of
from stages.text_image.model import TextImage
from stages.text_image.towers import Towers
from stages.train_clip import NAME, Settings, classified, drawn_labels, train
from tests.clip_factory import ClipFactory
from tests.shard_factory import pack
from tests.stages.evaluation_run import COLOURS, RATE_HZ
from tests.stages.tell_ranks import weights_of_two_ranks
from tests.stages.text_image.tiny_models import transformers

CLIPS = {"train": 8, "val": 4}  # of each class


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips whose colour goes with their label; one of training has no label."""
    folder = tmp_path_factory.mktemp("colours") / "made"
    factory, clips, rng = ClipFactory(folder), [], np.random.default_rng(0)
    rows = [(s, name, n) for s, count in CLIPS.items() for name in COLOURS for n in range(count)]
    for split, name, n in [*rows, ("train", "", 0)]:
        colour = COLOURS.get(name, (0, 0, 0)) + rng.normal(0, 12, (32, 32, 3))
        clips.append(
            factory.clip(
                f"{split}-{name}-{n}",
                [np.uint8(np.clip(colour, 0, 255))],
                [0.25],
                np.zeros(RATE_HZ // 10),
                rate_hz=RATE_HZ,
                source_id=f"{split}-{name}-{n}",
                split=split,
                labels=(name,) if name else (),
                status=Status.ACCEPTED,
                selection=Selection("mid", (1.0,), (0,)),
            )
        )
    factory.part()
    write_clips(folder / "table.parquet", clips)
    pack(Store(str(folder)), ["table.parquet"])
    return folder


def pipeline_in(folder: Path, shards: Path) -> Path:
    path = folder / "clip.yaml"
    path.write_text(f"""
name: clip
output: {folder / "run"}
stages:
  {NAME}:
    train: {{batch_size: 12, log_every: 1, device: cpu, shards: {shards}, workers: 0}}
    image_px: 32
    patch_px: 8
    dim: 16
    width: 32
    layers: 1
    text_width: 32
    text_layers: 1
    heads: 2
    warmup_steps: 2
    lr: 3e-3
""")
    return path


def run_here(folder: Path, shards: Path, *overrides: str) -> Path:
    folder.mkdir(exist_ok=True)
    words = [str(pipeline_in(folder, shards))]
    for text in overrides:
        words += ["--set", f"stages.{NAME}.{text}"]
    launch(NAME, Settings, train, words)
    return folder / "run/stages" / NAME


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    return run_here(tmp_path_factory.mktemp("trained"), shards, "train.epochs=15")


def test_transformers_reads_the_product(trained: Path, shards: Path) -> None:
    """Every weight is found, and its features are those of our own towers."""
    theirs, about = transformers.CLIPModel.from_pretrained(trained, output_loading_info=True)
    assert not about["missing_keys"]
    assert not about["unexpected_keys"]
    with safe_open(trained / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"  # without which earlier versions refuse it
    ours, _ = load_model(trained)
    assert isinstance(ours, Towers)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(trained)
    words = tokenizer(["snow", "a photo of fire"], padding=True, return_tensors="pt")
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = theirs.eval()(pixel_values=pixels, **words)
        seen, read, scale = ours(pixels, words["input_ids"], words["attention_mask"])
    torch.testing.assert_close(found.image_embeds, seen, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.text_embeds, read, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.logits_per_image, scale * seen @ read.T, atol=1e-4, rtol=1e-4)
    assert len(tokenizer) == ours.config.text_config.vocab_size


def test_it_names_what_it_never_saw(trained: Path, shards: Path) -> None:
    """Held-out frames by the class's name, through the loader that all others use."""
    last = [line for line in read_metrics(trained) if "val_top1" in line][-1]
    assert last["val_top1"] > 0.9
    assert last["val_loss"] < math.log(len(COLOURS)) / 2
    encoder = TextImage.load(trained)
    clips = read_clips(str(shards), "val")
    names = sorted(COLOURS)
    seen = encoder.pictures(frames_of(clips).read(range(len(clips))))
    for prompt in ("{}", "a photo of {}"):
        texts = encoder.texts([prompt.format(name) for name in names])
        nearest = [[names[n]] for n in (seen @ texts.T).argmax(axis=1)]
        right = [one == own for one, own in zip(nearest, clips.labels, strict=True)]
        assert np.mean(right) > 0.9
    assert encoder._sight.filter == "bilinear"
    assert not encoder._sight.crop  # as the loader brings frames to the towers


def test_it_goes_on_bit_for_bit_and_is_no_model_before_its_end(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("train.steps=4", "train.checkpoint_every=2")
    whole = run_here(tmp_path / "whole", shards, *steps)
    calls: list[int] = []

    def stopped(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return label_info_nce(*given)

    monkeypatch.setattr("stages.train_clip.label_info_nce", stopped)
    with pytest.raises(SystemExit) as ended:
        run_here(tmp_path / "halves", shards, *steps)
    assert ended.value.code == 130
    with pytest.raises(WeightsError, match=r"model\.safetensors missing"):
        TextImage.load(tmp_path / "halves/run/stages" / NAME)
    monkeypatch.undo()
    halves = run_here(tmp_path / "halves", shards, *steps)
    one, other = load_weights(whole)[1], load_weights(halves)[1]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("config.json", "vocab.json", "merges.txt", "preprocessor_config.json"):
        assert (whole / name).read_bytes() == (halves / name).read_bytes()
    # What is refused leaves the product as it is.
    with pytest.raises(SystemExit):
        run_here(tmp_path / "halves", shards, *steps, "width=64")
    assert (whole / "config.json").read_bytes() == (halves / "config.json").read_bytes()


def test_one_batch_can_be_learnt_by_heart() -> None:
    """Noise and words that nothing ties together but being a pair."""
    torch.manual_seed(0)
    network = Towers(
        vocabulary=520,
        image_px=32,
        patch_px=8,
        dim=16,
        width=32,
        layers=1,
        text_width=32,
        text_layers=1,
        heads=2,
        max_tokens=8,
    )
    pixels, ids = torch.randn(8, 3, 32, 32), torch.randint(0, 512, (8, 5))
    ids[:, 0], ids[:, -1] = 518, 519
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        seen, read, scale = network(pixels, ids, torch.ones_like(ids))
        loss = label_info_nce(seen, read, torch.arange(8), scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert (seen @ read.T).argmax(dim=1).tolist() == list(range(8))


@pytest.mark.slow
def test_two_ranks_have_the_same_weights(tmp_path: Path, shards: Path) -> None:
    first, second = weights_of_two_ranks(NAME, pipeline_in(tmp_path, shards), "train.steps=3")
    assert first
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_the_scale_starts_at_a_temperature_of_7_percent_and_stays_in_range() -> None:
    sizes = {"vocabulary": 520, "image_px": 16, "patch_px": 8, "dim": 4, "width": 8, "layers": 1}
    sizes |= {"text_width": 8, "text_layers": 1, "heads": 2, "max_tokens": 4}
    network = Towers(**sizes)
    given = torch.zeros(1, 3, 16, 16), torch.tensor([[518, 519]]), torch.ones(1, 2)
    assert network(*given)[2].item() == pytest.approx(1 / 0.07, rel=1e-5)
    for value, kept in ((9.0, 100), (-3.0, 1)):
        network.logit_scale.data.fill_(value)
        assert network(*given)[2].item() == pytest.approx(kept, rel=1e-5)


def test_a_clip_of_several_classes_is_any_of_them() -> None:
    classes = Classes(("a", "b", "c"), "labels", {"x": (0, 2), "y": (1,), "z": ()})
    rng = torch.Generator().manual_seed(0)
    drawn = drawn_labels(classes, ["x", "y", "z"] * 50, rng).reshape(50, 3)
    assert set(drawn[:, 0].tolist()) == {0, 2}
    assert drawn[:, 1:].unique(dim=0).tolist() == [[1, -1]]
    logits = torch.tensor([[2.0, 0, 0], [0, 3, 0], [5, 0, 0]])
    found = classified(logits, classes.targets(["x", "y", "z"]))
    both = [-math.log(math.exp(2) / (math.exp(2) + 2)), -math.log(1 / (math.exp(2) + 2))]
    other = -math.log(math.exp(3) / (math.exp(3) + 2))
    assert found["loss"].item() == pytest.approx((sum(both) / 2 + other) / 2, rel=1e-5)
    assert found["top1"].item() == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prompts=[a photo]", r"one \{\} for the class"),
        ("patch_px=7", "multiple of patch_px"),
        ("heads=3", "must divide by 3"),
        ("max_tokens=4", r"has 6 tokens, more than max_tokens=4"),
        ("image_px=4000", "the shards in"),
        ("train.strategy=fsdp", "auto or ddp"),
        ("min_clips=100", "a classifier needs two or more"),
    ],
)
def test_settings_that_cannot_be_met(
    tmp_path: Path, shards: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_here(tmp_path, shards, override)
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)
