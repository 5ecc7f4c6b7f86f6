"""Held-out contents restyled by held-out sounds of other videos, in evaluation's own words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from avdata.audio.spec import AVSTYLE
from avdata.config import load_pipeline
from avdata.strict import build
from stages.avstyle.load import load_model
from stages.avstyle.systems import SYSTEMS, at_gain, restyled, unchanged
from stages.evaluate import Settings, evaluate
from stages.evaluation.contents import of_another_class
from stages.evaluation.studio import Studio
from stages.evaluation.tables import to_markdown
from stages.generation.inputs import Picture, Sound
from stages.generation.sounds import together
from stages.pairs.clips import read_clips
from stages.pairs.features import FeatureCache
from stages.pairs.samples import sounds_of
from tests.stages.avstyle.tiny_restyler import make_training
from tests.stages.evaluation_run import make_shards, pipeline_file
from tests.stages.tiny_scenes import RATE_HZ


def test_pictures_of_other_classes_by_the_clips_own_sounds(tmp_path: Path) -> None:
    """Painted once more by hand; what is louder changes more, and nothing is normalised again."""
    run = tmp_path / "run"
    make_shards(run)
    make_training(run / "stages" / "train_avstyle")
    clips, train = read_clips(str(run), "test"), read_clips(str(run), "train")
    model = load_model(run, device="cpu")
    classes = [labels[0] for labels in clips.labels]
    cache = FeatureCache(tmp_path / "features", batch_size=4, workers=1)
    studio = Studio(lambda _: model, clips, classes, train, cache, tmp_path / "pictures", 0)
    chosen = of_another_class(studio)
    before = unchanged(studio, 0).read(range(len(clips)))
    sounds = sounds_of(clips, RATE_HZ).read(range(len(clips)))
    changes = []
    for gain, made in ((1.0, restyled(studio, 0)), (0.0, at_gain(studio, 0.0))):
        after = made.read(range(len(clips)))
        for row, wave in enumerate(sounds):
            assert chosen.labels[row] != clips.labels[row]
            sound = together([Sound("a", wave, RATE_HZ)], [gain], AVSTYLE)
            expected = model.restyle(Picture("a", before[row]), sound)
            assert np.abs(after[row].astype(int) - expected).max() <= 1
        changes.append(np.stack(after))
    assert (changes[0] != changes[1]).any()


def test_they_are_scored_beside_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = tmp_path / "run"
    make_shards(run)
    make_training(run / "stages" / "train_avstyle")
    path = pipeline_file(run, {"train_avstyle": {}}, judged_px=32)
    pipeline = load_pipeline(path, stages=["train_avstyle"])
    found = evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here")).results
    assert list(found["systems"]) == [*(s.name for s in SYSTEMS), "upper_bound"]
    assert "| AVStyle (picture, sound → picture) | ours |" in to_markdown(found)
    assert found["models"].keys() == {"avstyle"}
    assert found["systems"]["avstyle"]["FID"]["value"] > 0
    assert json.dumps(dict(found))
