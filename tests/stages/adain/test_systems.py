"""AdaIN among the systems, from shards to figures: colours of the sound's class are taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.strict import build
from stages import train_adain
from stages.adain.stylist import open_stylist
from stages.adain.systems import restyled, styles
from stages.engine.errors import CheckpointError
from stages.engine.launch import launch
from stages.evaluate import Settings, evaluate, main
from stages.evaluation.contents import of_another_class
from stages.evaluation.labelled import read_labelled
from stages.evaluation.studio import Studio
from stages.family import Opening
from stages.generation.inputs import Picture
from stages.generation.painter import Ask
from stages.pairs.features import FeatureCache
from stages.pairs.samples import frames_of
from tests.stages.evaluation_run import make_products, make_shards, pipeline_file

TRAIN = {
    "encoder": "random",
    "width": 16,
    "levels": 2,
    "load_px": 20,
    "crop_px": 16,
    "lr": 0.002,
    "train": {"steps": 160, "batch_size": 4, "device": "cpu", "workers": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three classes that have a colour each, and AdaIN trained on them."""
    folder = tmp_path_factory.mktemp("adain") / "run"
    make_shards(folder)
    path = pipeline_file(folder, {"train_adain": TRAIN})
    launch("train_adain", train_adain.Settings, train_adain.train, [str(path)])
    return folder


def studio_of(run: Path) -> Studio:
    test, train, _ = read_labelled(str(run), "test", "train")
    cache = FeatureCache(run / "cache", 4, 0)
    return Studio(
        lambda _: open_stylist(Opening(run=run, device="cpu")),
        test.clips,
        test.classes,
        train.clips,
        cache,
        run / "pictures",
        0,
    )


def test_the_style_is_a_training_clip_of_the_sounds_class(run: Path) -> None:
    studio = studio_of(run)
    chosen = styles(studio, 0)
    assert [own[0] for own in chosen.labels] == list(studio.classes)
    assert {key.split("-")[0] for key in chosen.keys} == {"train"}
    assert chosen.keys == styles(studio, 0).keys
    assert chosen.keys != styles(studio, 1).keys


def test_each_picture_comes_from_its_content_and_its_style(run: Path) -> None:
    studio = studio_of(run)
    stylist = studio.painter("adain")
    rows = [0, 5, 11]
    contents = frames_of(of_another_class(studio)).read(rows)
    models = frames_of(styles(studio, 0)).read(rows)
    alone = [
        stylist.paint([Ask(key="x", picture=Picture("c", c), style=Picture("s", s))], 7)[0]
        for c, s in zip(contents, models, strict=True)
    ]
    np.testing.assert_array_equal(restyled(studio, 0).read(rows), alone)


def test_it_is_evaluated_and_shows_the_class_of_the_sound(run: Path) -> None:
    pipeline = load_pipeline(pipeline_file(run, {"train_adain": TRAIN}))
    found = evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here")).results
    assert list(found["systems"]) == ["adain", "upper_bound"]  # of what this pipeline trains
    assert found["systems"]["adain"]["R@1"]["value"] > 0.8  # of another class before: 0
    assert found["systems"]["adain"]["follows"]["value"] > 0.8
    assert found["systems"]["adain"]["stays"]["value"] < 0.2
    assert -1 <= found["systems"]["adain"]["structure"]["value"] <= 1
    assert found["models"]["adain"]["adain"]["file"].endswith("train_adain/model.safetensors")


def test_another_evaluation_is_a_chapter_of_its_own(run: Path) -> None:
    more: dict[str, Any] = {"chapter": "restyled", "restyling": {"texts": False}}
    path = str(pipeline_file(run, {"train_adain": TRAIN}, **more))
    before = sorted(p.name for p in (run / "stages").iterdir())
    main([path])
    assert sorted({*before, "evaluate_restyled"}) == sorted(
        p.name for p in (run / "stages").iterdir()
    )
    written = (run / "stages/evaluate_restyled/section.html").read_text(encoding="utf-8")
    assert "<h2>Evaluation: restyled</h2>" in written
    told = (run / "stages/evaluate_restyled/results.md").read_text(encoding="utf-8")
    assert "no CLIP similarity" not in told  # as it was not looked for
    with pytest.raises(SystemExit):
        main([path, "--set", "stages.evaluate.chapter=../elsewhere"])


def test_what_it_refuses(run: Path, tmp_path: Path) -> None:
    stylist = open_stylist(Opening(run=run, device="cpu"))
    picture = Picture("a", np.zeros((8, 8, 3), np.uint8))
    for ask in (Ask(key="a", picture=picture), Ask(key="a", style=picture)):
        with pytest.raises(SettingsError, match="restyles a picture by another one"):
            stylist.paint([ask], 0)
    with pytest.raises(CheckpointError, match="train_adain"):
        open_stylist(Opening(run=tmp_path, device="cpu"))
    make_products(tmp_path / "other")
    eye = tmp_path / "other/stages/train_image_encoder"
    with pytest.raises(CheckpointError, match="holds the model 'image_encoder', no adain"):
        open_stylist(Opening(parts={"adain": eye}, device="cpu"))
