"""Held-out contents restyled by held-out sounds of other videos, in evaluation's own words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avdata.audio.spec import AVSTYLE
from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.measures import class_names
from avdata.strict import build
from stages.avstyle.load import load_model
from stages.avstyle.restyler import Restyler
from stages.avstyle.systems import at_gain, restyled, unchanged
from stages.engine.errors import CheckpointError
from stages.evaluate import evaluate
from stages.evaluation.answers import score_files, study_key
from stages.evaluation.contents import of_another_class
from stages.evaluation.questions import make_questions, read_items
from stages.evaluation.settings import Settings
from stages.evaluation.studio import Studio
from stages.evaluation.tables import to_markdown
from stages.generation.inputs import Picture, Sound
from stages.generation.sounds import together
from stages.pairs.clips import read_clips
from stages.pairs.features import FeatureCache
from stages.pairs.samples import sounds_of
from tests.stages.avstyle.tiny_restyler import make_training
from tests.stages.evaluation_run import COLOURS, make_shards, pipeline_file
from tests.stages.tiny_scenes import RATE_HZ


def studio_of(run: Path, folder: Path, model: Restyler) -> Studio:
    clips, train = read_clips(str(run), "test"), read_clips(str(run), "train")
    classes = [labels[0] for labels in clips.labels]
    cache = FeatureCache(folder / "features", batch_size=4, workers=1)
    return Studio(lambda _: model, clips, classes, train, cache, folder / "pictures", 0)


def test_pictures_of_other_classes_by_the_clips_own_sounds(tmp_path: Path) -> None:
    """Painted once more by hand; what is louder changes more, and nothing is normalised again."""
    run = tmp_path / "run"
    make_shards(run)
    make_training(run / "stages" / "train_avstyle")
    model = load_model(run, device="cpu")
    studio = studio_of(run, tmp_path, model)
    clips = studio.test
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
    assert list(found["systems"]) == ["avstyle", "content", "upper_bound"]
    assert "| AVStyle (picture, sound → picture) | ours |" in to_markdown(found)
    assert found["models"].keys() == {"avstyle"}
    assert found["systems"]["avstyle"]["FID"]["value"] > 0
    assert json.dumps(dict(found))


def test_trained_baselines_stand_in_the_table_beside_what_people_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the ablations as systems; points of a ranking whose answers are given here."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = tmp_path / "run"
    make_shards(run)
    make_training(run / "stages" / "train_avstyle")
    path = pipeline_file(run, {"train_avstyle": {}}, judged_px=32)
    pipeline = load_pipeline(path, stages=["train_avstyle"])
    section = pipeline.stages["evaluate"] | {"systems": ["avstyle", "keyword"], "study_clips": 4}
    with pytest.raises(CheckpointError, match=r'stages\.ablate\.rows=\["keyword","full"\]'):
        evaluate(pipeline, build(Settings, section, "here"))

    row = run / "stages" / "ablate_avstyle" / "keyword" / "stages" / "train_avstyle"
    make_training(row, told=sorted(COLOURS))
    found = evaluate(pipeline, build(Settings, section, "here")).results
    expected = load_model(style_generator=row, device="cpu")
    assert found["models"]["avstyle/keyword"] == dict(expected.sources)
    assert found["systems"]["keyword"].keys() >= {"follows", "structure", "FID"}

    items = run / "stages" / "evaluate" / "study" / "items.jsonl"
    questions = make_questions(read_items(items), "ranking", 4, "", "", 0, ("avstyle", "keyword"))
    key = study_key(questions, "", "", 0, ("avstyle", "keyword"))
    answers, firsts = [], ["avstyle", "avstyle", "avstyle", "keyword"]
    for question, first in zip(key["questions"], firsts, strict=True):
        names = sorted(question["options"], key=lambda o: question["options"][o]["method"] != first)
        answers.append({"question": question["id"], "chosen": names})
    (tmp_path / "a.json").write_text(
        json.dumps({"study": key["study"], "participant": "a", "answers": answers})
    )
    points = tmp_path / "scores.json"
    points.write_text(json.dumps(score_files(key, [tmp_path / "a.json"])))
    section |= {"ranking": str(points)}
    found = evaluate(pipeline, build(Settings, section, "here")).results
    assert found["systems"]["avstyle"]["preference"]["value"] == 1.75  # of 2 points, 3 times of 4
    assert found["systems"]["keyword"]["preference"]["value"] == 1.25
    assert "| preference |" in to_markdown(found)
    with pytest.raises(SettingsError, match="none of which is scored"):
        evaluate(pipeline, build(Settings, section | {"systems": ["content"]}, "here"))
    points.write_text("{}")
    with pytest.raises(SettingsError, match="holds no scores of a ranking"):
        evaluate(pipeline, build(Settings, section, "here"))


def test_a_baseline_is_told_what_the_shards_say(tmp_path: Path) -> None:
    """Its pictures, from the whole generator and scores put together by hand."""
    run = tmp_path / "run"
    make_shards(run)
    folder = make_training(run / "stages" / "train_avstyle", told=sorted(COLOURS))
    assert (folder / "condition.safetensors").is_file()
    model = load_model(run, device="cpu")
    studio = studio_of(run, tmp_path, model)
    clips = studio.test
    scores = torch.tensor(
        [[float(name in own) for name in sorted(COLOURS)] for own in clips.labels]
    )
    assert (scores.sum(dim=1) == 0).sum() == 1  # of a class that was not there in training
    with torch.no_grad():
        told = model.ear(scores)
    before = unchanged(studio, 0).read(range(len(clips)))
    for row, image in enumerate(restyled(studio, 0).read(range(len(clips)))):
        x = torch.tensor(before[row]).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            y = (model.generator(x, told[row : row + 1])[0].permute(1, 2, 0) + 1) * 127.5
        assert np.abs(image - y.numpy()).max() <= 1
    with pytest.raises(SettingsError, match="hears no sound"):
        _ = model.hears
    with pytest.raises(SettingsError, match="no class 'moo'"):
        model.told(['{"moo": 1}'])


def test_yamnets_classes_are_told_with_their_scores(tmp_path: Path) -> None:
    """The ten best of the index, as training reads them."""
    names = class_names()
    model = load_model(
        style_generator=make_training(tmp_path / "training", told=list(names)), device="cpu"
    )
    assert model.classes == names
    scores = torch.zeros(1, len(names))
    scores[0, [3, 77]] = torch.tensor([0.8, 0.25])
    found = model.told([json.dumps({names[3]: 0.8, names[77]: 0.25})])
    torch.testing.assert_close(found, model.ear(scores))
