"""Figures of sounds: by hand and by scikit-learn, on a family that knows pitches and words."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from avdata.clip import Status
from avdata.config import load_pipeline
from avdata.errors import SettingsError, ShardError
from avdata.store import Store
from avdata.strict import build
from avdata.tables import write_clips
from stages import ablate, families
from stages.evaluate import Settings, evaluate, main
from stages.evaluation.ablations import heard_table
from stages.evaluation.page import Evaluation, page
from stages.evaluation.tables import to_markdown
from stages.metrics.bootstrap import bootstrap_mean
from tests.clip_factory import ClipFactory
from tests.shard_factory import pack
from tests.stages.evaluation_run import make_shards, pipeline_file
from tests.stages.toy_listener import CENTRES_HZ, RATE_HZ, WORDS, Pitch

CLASSES = tuple(WORDS)
FOLDS = ("fold1", "fold2", "fold3")
ALONE: dict[str, Any] = {"pictures": False}


@pytest.fixture(autouse=True)
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.FAMILIES, "toy", "tests.stages.toy_family:FAMILY")
    monkeypatch.setitem(families.FAMILIES, "listener", "tests.stages.toy_listener:FAMILY")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def sounds() -> dict[str, list[tuple[str, str, str, NDArray[np.float64]]]]:
    """Return (key, recording, class, wave) of each fold: pitches that often mislead, no pictures.

    The last fold has fewer clips of snow than the others.
    """
    rng, t = np.random.default_rng(5), np.arange(RATE_HZ // 4) / RATE_HZ
    made = {}
    for fold in FOLDS:
        made[fold] = [
            (
                f"{fold}-{name}-{n}",
                f"{fold}-{name}-recording-{n // 2}",
                f"a_{name}",
                0.3 * np.sin(2 * np.pi * hz * 2 ** rng.normal(0, 0.8) * t),
            )
            for name, hz in zip(CLASSES, CENTRES_HZ, strict=True)
            for n in range(2 if (fold, name) == ("fold3", "snow") else 6)
        ]
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of sounds in three folds, without a single picture."""
    folder = tmp_path_factory.mktemp("sounds") / "run"
    factory = ClipFactory(folder)
    clips = [
        factory.clip(
            *(key, [], [], wave),
            rate_hz=RATE_HZ,
            source_id=source,
            split=fold,
            labels=(label,),
            status=Status.ACCEPTED,
        )
        for fold, own in sounds().items()
        for key, source, label, wave in own
    ]
    factory.part()
    write_clips(folder / "table.parquet", clips)
    pack(Store(str(folder)), ["table.parquet"])
    return folder


def scored(run: Path, stages: dict[str, Any] | None = None, **settings: Any) -> Evaluation:
    own = {"systems": [], **settings}
    pipeline = load_pipeline(pipeline_file(run, stages, **own), stages=list(stages or ()))
    return evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here"))


def heard(run: Path, **settings: Any) -> Evaluation:
    given = {"listeners": ["listener"], "folds": list(FOLDS), **settings}
    return scored(run, **ALONE, sounds=given)


def by_key(evaluation: Evaluation, figure: str, name: str = "listener") -> dict[str, float]:
    return {line["key"]: line[name][figure] for line in evaluation.sounds}


def features() -> dict[str, NDArray[np.float64]]:
    ear = Pitch(1.0)
    made = {fold: [np.float32(wave) for *_, wave in own] for fold, own in sounds().items()}
    return {fold: ear.sounds(waves).astype(float) for fold, waves in made.items()}


def test_zero_shot_is_the_nearest_text_by_cosine(run: Path) -> None:
    """By hand; the mean is over folds, not over clips, and its interval drawn within each."""
    evaluation = heard(run, prompt="the sound of {}")
    words = np.array([WORDS[name] for name in CLASSES])
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    hits, means = {}, []
    for fold, x in features().items():
        cosines = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ words.T
        own = sounds()[fold]
        right = [
            float(f"a_{CLASSES[best]}" == label)
            for best, (_, _, label, _) in zip(cosines.argmax(axis=1), own, strict=True)
        ]
        hits |= {key: hit for hit, (key, *_) in zip(right, own, strict=True)}
        means.append(np.mean(right))
    assert by_key(evaluation, "zero_shot") == hits
    found = evaluation.results["sounds"]
    figure = found["listeners"]["listener"]["figures"]["zero_shot"]
    assert figure["value"] == pytest.approx(np.mean(means))
    assert figure["value"] != pytest.approx(np.mean(list(hits.values())))
    assert 1 / 3 < figure["low"] < figure["value"] < figure["high"] < 1
    for fold, mean in zip(FOLDS, means, strict=True):
        assert figure["by_fold"][fold]["value"] == pytest.approx(mean)
    own = [line for line in evaluation.sounds if line["class"] == "a_sea"]
    expected = bootstrap_mean(
        [hits[line["key"]] for line in own],
        clusters=[line["source"] for line in own],
        resamples=50,
        seed=3,
    )
    assert figure["by_class"]["a_sea"] == pytest.approx(expected.to_json())
    assert found["clips"] == len(hits) == 50
    assert found["recordings"] == 25
    assert found["chance"] == pytest.approx(1 / 3)


def test_the_probe_of_a_fold_is_taught_on_the_others(run: Path) -> None:
    """Scikit-learn's logistic regression on standardised features names the same classes."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    evaluation = heard(run, probe_decay=0.01)
    x, made, expected = features(), sounds(), {}
    for fold in FOLDS:
        others = [name for name in FOLDS if name != fold]
        known = np.concatenate([x[name] for name in others])
        labels = [label for name in others for _, _, label, _ in made[name]]
        mean, scale = known.mean(axis=0), known.std(axis=0)
        peer = linear_model.LogisticRegression(C=1 / (0.01 * len(known)), tol=1e-9, max_iter=5000)
        named = peer.fit((known - mean) / scale, labels).predict((x[fold] - mean) / scale)
        for best, (key, _, label, _) in zip(named, made[fold], strict=True):
            expected[key] = float(best == label)
    assert by_key(evaluation, "probe") == expected
    assert 0.4 < np.mean(list(expected.values())) < 1


def test_one_split_is_scored_and_another_teaches(tmp_path: Path) -> None:
    """Without folds: the clips that R@k is measured on, beside the pictures, and in the page."""
    run = tmp_path / "run"
    make_shards(run)
    evaluation = scored(run, {"train_avc": {}}, systems=["listened"])
    assert {line["fold"] for line in evaluation.sounds} == {"test"}
    keys = [line["key"] for line in evaluation.sounds]
    assert keys == [clip["key"] for clip in evaluation.clips]
    found = evaluation.results["sounds"]
    figures = found["listeners"]["listener"]["figures"]
    assert figures["zero_shot"]["value"] == figures["probe"]["value"] == 1
    assert list(figures["zero_shot"]["by_fold"]) == ["test"]
    html, text = page(evaluation), to_markdown(evaluation.results)
    for said in (html, text):
        assert "Sounds: naming the class by what is heard" in said
        assert "taught on the split train" in said
        assert "Table 1: sounds" in said  # the papers'
        assert "Sounds by fold" not in said
    assert "| Listener | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) |" in text
    assert "| Chance | 33.3 | 33.3 |" in text
    assert scored(run, systems=["listened"], sounds={"listeners": []}).results["sounds"] == {}


def test_sounds_alone_are_written(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "ear.json"
    path.write_text('{"blur": 0.5, "words": false}')
    given = {"listeners": ["listener"], "folds": list(FOLDS), "others": {"other": str(path)}}
    main([str(pipeline_file(run, systems=[], **ALONE, sounds=given))])
    folder = run / "stages/evaluate"
    results = json.loads((folder / "results.json").read_text())
    other = results["sounds"]["listeners"]["other"]
    assert list(other["figures"]) == ["probe"]  # it has no words
    lines = [json.loads(line) for line in (folder / "sounds.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"key", "source", "class", "fold", "listener", "other"}
    assert (folder / "clips.jsonl").read_text() == ""
    text = (folder / "results.md").read_text()
    assert "Sounds of 50 clips of 25 recordings, 3 classes, 3 folds of" in text
    assert "| Listener | zero-shot % | " in text
    assert "other: sounds by the toy's ear; its space has no texts" in text
    assert "Pictures of test clips" not in (folder / "section.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"listeners": []}, "there is nothing to score"),
        ({"listeners": ["sound2scene"]}, r"'sound2scene' names no sounds; .*listener"),
        ({"folds": ["fold1"]}, "two or more different splits"),
        ({"folds": ["fold1", "fold9"]}, "no clips in split 'fold9'"),
        ({"prompt": "a sound"}, "the place of the class"),
        ({"probe_decay": 0.0}, "above 0"),
        ({"others": {"listener": "/x"}}, "listener is a family"),
        ({"listeners": [], "others": {"x": "/x"}}, "name that family"),
    ],
)
def test_what_cannot_be_named_is_refused(run: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((SettingsError, ShardError), match=message):
        heard(run, **settings)


def test_a_class_that_no_other_fold_has_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a_fire\na_sea\n")
    given = {"listeners": ["listener"], "folds": list(FOLDS)}
    found = scored(run, **ALONE, classes_file=str(tmp_path / "classes.txt"), sounds=given)
    assert found.results["sounds"]["classes"] == ["a_fire", "a_sea"]
    assert found.results["sounds"]["clips_without_a_class"] == 14
    single = tmp_path / "single"
    factory = ClipFactory(single)
    clips = [
        factory.clip(
            *(f"{fold}{n}", [], [], np.sin(np.arange(4000) * 0.2 * (1 + n))),
            rate_hz=RATE_HZ,
            split=fold,
            labels=(("a_fire", "a_sea") if fold == "x" else ("a_fire", "a_fire"))[n : n + 1],
            status=Status.ACCEPTED,
        )
        for fold in ("x", "y")
        for n in range(2)
    ]
    factory.part()
    write_clips(single / "table.parquet", clips)
    pack(Store(str(single)), ["table.parquet"])
    with pytest.raises(ShardError, match=r"for x on y: no training example of class \[1\]"):
        heard(single, folds=["x", "y"])


def test_a_grid_of_sounds_makes_no_picture(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are scored by what they name; the lead of `full` is that of the same clips."""

    def train(command: Any, cell: str) -> None:
        words = dict(word.split("=", 1) for word in command if "=" in word)
        blur = float(words.get("stages.train_avc.blur", 1))
        told = Path(json.loads(words["output"])) / "stages/train_avc"
        told.mkdir(parents=True, exist_ok=True)
        (told / "ear.json").write_text(json.dumps({"blur": blur}))

    monkeypatch.setattr(ablate, "_train", train)
    given = {"folds": list(FOLDS), "probe": False, "others": {"x": "/nowhere"}}
    own = {"family": "listener", "seeds": 2}
    path = pipeline_file(run, {"train_avc": {}, "ablate": own}, sounds=given)
    pipeline = load_pipeline(path)
    settings = build(ablate.Settings, own, "here")
    one, results = ablate.ablate(str(path), [], pipeline, settings)
    assert one.name == "listener"
    deaf = results["deaf"]
    assert deaf["systems"] == {}
    assert deaf["sounds"]["listeners"].keys() == {"listener"}
    means = [np.mean(list(by_key(heard(run, probe=False), "zero_shot").values()))] * 2
    assert results["full"]["seeds"] == {"zero_shot": pytest.approx(means)}
    ahead = deaf["full_ahead"]["zero_shot"]
    assert ahead["value"] == pytest.approx(means[0] - deaf["seeds"]["zero_shot"][0])
    assert ahead["value"] > 0
    text = ablate.work(argparse.Namespace(pipeline=str(path), overrides=[]), pipeline, settings)
    assert "## Ears" in text
    assert one.ablations is not None
    rows = {name: results[name] for name in ("deaf", "full")}
    table = heard_table(one.ablations, rows)
    assert f"| {' | '.join(table.rows[0])} |" in text
    assert table.header == ("", "", "zero-shot %", "zero-shot over 2 seeds", "full ahead")
    assert [row[:3] for row in table.rows[2:3]] == [("", "paper", "US8K 58.6")]
    assert table.rows[-1][:3] == ("Chance", "ours", "33.3")
