"""The family in the shared evaluation: systems, codes, hearing; by hand, on a tiny run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avdata.config import load_pipeline
from avdata.frames import squash
from avdata.strict import build
from stages.ablate import Settings as AblateSettings
from stages.ablate import cells, chosen
from stages.evaluate import Settings, evaluate
from stages.evaluation.page import Evaluation, page
from stages.evaluation.studio import Studio
from stages.evaluation.tables import to_markdown
from stages.family import Opening
from stages.metrics.code_cosines import code_cosines
from stages.metrics.structure import edge_correlation
from stages.pairs.clips import read_clips
from stages.pairs.features import FeatureCache
from stages.pairs.samples import sounds_of
from stages.sound_guided.ablations import GRID
from stages.sound_guided.family import FAMILY, open_hearing, open_painter
from stages.sound_guided.manipulator import Manipulator
from stages.sound_guided.systems import frames_asked, sounds_asked, texts_asked
from tests.stages.evaluation_run import CLIPS, COLOURS, make_shards, pipeline_file
from tests.stages.sound_guided.tiny_run import FEW, make_run

N = CLIPS["test"] * len(COLOURS)
COMPARED = ["sound_guided", "text_guided", "unmoved", "regenerated"]
OWN: dict[str, Any] = {
    "options": {"sound_guided": FEW},
    "restyling": {"texts": False, "gains": []},
    "projection": "pca",
    "judged_px": 32,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guided") / "run"
    make_shards(folder)
    return make_run(folder)


@pytest.fixture(scope="module")
def evaluation(run: Path) -> Evaluation:
    return scored(run, systems=COMPARED)


@pytest.fixture(scope="module")
def model(run: Path) -> Manipulator:
    return open_painter(Opening(run=run, options=FEW, device="cpu"))


@pytest.fixture(scope="module")
def studio(run: Path, model: Manipulator) -> Studio:
    test = read_clips(str(run), "test")
    test = test.where(own != ["a class of its own"] for own in test.labels)
    cache = FeatureCache(run / "by hand", 4, 0)
    classes = [own[0] for own in test.labels]
    train = read_clips(str(run), "train")
    return Studio(lambda _: model, test, classes, train, cache, run / "pictures by hand", 3)


def scored(run: Path, **settings: Any) -> Evaluation:
    pipeline = load_pipeline(pipeline_file(run, **OWN | settings), stages=())
    return evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here"))


def test_structure_is_kept_of_what_a_sound_starts_from(
    evaluation: Evaluation, studio: Studio, model: Manipulator
) -> None:
    asks = sounds_asked(studio).read(range(N))
    before, after = model.before(asks, 3), model.paint(asks, 3)
    kept = [edge_correlation(a, b) for a, b in zip(before, after, strict=True)]
    figures = evaluation.results["systems"]
    assert figures["sound_guided"]["structure"]["value"] == pytest.approx(np.mean(kept), abs=0.01)
    other = model.paint(sounds_asked(studio).read(range(N), 1), 3)
    lost = [edge_correlation(a, b) for a, b in zip(before, other, strict=True)]
    assert figures["regenerated"]["structure"]["value"] == pytest.approx(np.mean(lost), abs=0.01)
    assert np.mean(lost) < np.mean(kept) < 1


def test_what_is_not_moved_stays(evaluation: Evaluation) -> None:
    """Its class is what the judge sees in the start; of starts that show another than the sound."""
    figures, clips = evaluation.results["systems"], evaluation.clips
    same = figures["unmoved"]
    assert same["follows"]["value"] == 0
    assert same["stays"]["value"] == same["structure"]["value"] == 1
    asked = [clip["key"] for clip in clips if "follows" in clip["unmoved"]]
    wrong = [clip["key"] for clip in clips if clip["unmoved"]["R@1"] == 0]
    assert asked == wrong
    moved = [clip["sound_guided"]["R@1"] for clip in clips if "follows" in clip["sound_guided"]]
    assert figures["sound_guided"]["follows"]["value"] == pytest.approx(np.mean(moved))


def test_codes_stand_beside_the_papers(
    evaluation: Evaluation, studio: Studio, model: Manipulator
) -> None:
    """Table 2 from codes that are searched again, cosines by NumPy."""
    codes = {}
    for name, asks in (("audio", sounds_asked(studio)), ("text", texts_asked(studio))):
        batch = asks.read(range(N))
        guidance = model.guidance(batch)
        moved = model.moved(guidance, model.starts(batch, 3, guidance))
        codes[name] = moved.ws.flatten(1).double().numpy()
        codes["source"] = moved.source.flatten(1).double().numpy()
    found = evaluation.results["exhibits"]["codes-sound_guided"]
    for name, figure in found["figures"].items():
        one, other = (codes[part] for part in name.split(" – "))
        cosines = np.array(
            [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(one, other, strict=True)]
        )
        assert figure["value"] == pytest.approx(cosines.mean(), abs=1e-4)
        assert figure["deviation"] == pytest.approx(cosines.std(), abs=1e-4)
        assert figure["value"] < 0.9999
    text = to_markdown(evaluation.results)
    assert "|  | paper | 0.97918 | 0.00708 |" in text
    html = page(evaluation)
    assert "Codes before and after" in html
    assert "by text</text>" in html
    assert "Paper: User study of 50 people" in text


def test_the_familys_ear_names_sounds(
    evaluation: Evaluation, run: Path, studio: Studio, model: Manipulator
) -> None:
    listener = open_hearing(Opening(run=run, device="cpu"), FAMILY.name)
    sounds = sounds_of(studio.test, 16_000).read(range(N))
    waves = np.zeros((N, 16_000), np.float32)
    for row, sound in enumerate(sounds):
        waves[row, : len(sound)] = sound  # filled up with silence
    assert model.embedder is not None
    expected = model.embedder.embed(torch.from_numpy(waves)).numpy()
    np.testing.assert_allclose(listener.sounds.sounds(sounds), expected, atol=1e-6)
    names = sorted(COLOURS)
    words = model.space.texts(names)
    named = [names[n] for n in (expected @ words.T).argmax(axis=1)]
    hits = [float(a == b) for a, b in zip(named, studio.classes, strict=True)]
    assert [line["sound_guided"]["zero_shot"] for line in evaluation.sounds] == hits
    assert "Wav2CLIP, zero-shot" in to_markdown(evaluation.results)


def test_frames_are_found_again_and_moved(run: Path, studio: Studio, model: Manipulator) -> None:
    """Held against the frame itself, so that what the search for it lost counts too."""
    evaluation = scored(run, systems=["sound_guided_frame", "inverted"], sounds={"listeners": []})
    assert evaluation.results["exhibits"] == {}  # Table 2 needs both guides
    assert set(evaluation.results["systems"]["sound_guided_frame"]) >= {"follows", "structure"}
    asks = frames_asked(studio).read([0])
    frame = asks[0].picture
    assert frame is not None
    (found,) = model.before(asks, 3)
    clip = evaluation.clips[0]
    given = squash(frame.image, *found.shape[:2])
    assert clip["inverted"]["structure"] == pytest.approx(edge_correlation(given, found), abs=0.02)


def test_a_row_of_the_grid_changes_one_thing(tmp_path: Path) -> None:
    path = pipeline_file(tmp_path / "run", {"train_sound_clip": {"arch": "tiny"}})
    pipeline = load_pipeline(path, stages=["train_sound_clip"])
    own = build(AblateSettings, {"seeds": 2}, "here")
    made = {cell.name: cell for cell in cells(pipeline, own, *chosen(pipeline, own))}
    shards = {"train.shards": str(tmp_path / "run")}
    wanted = {name: {**shards, **row.changes} for name, row in GRID.rows.items()} | {"full": {}}
    assert {name: dict(cell.trainer) for name, cell in made.items() if name in wanted} == wanted
    assert made["no_kl_seed_4"].seed == 4
    assert made["no_kl"].judge["pictures"] is False
    assert made["no_kl"].judge["sounds.listeners"] == ["sound_guided"]
    assert "clip" not in made["no_kl"].judge["parts"]  # there is no train_clip: a published one
    clip = tmp_path / "run/stages/train_clip"
    clip.mkdir(parents=True)
    made = {cell.name: cell for cell in cells(pipeline, own, *chosen(pipeline, own))}
    assert made["no_kl"].trainer["clip"] == made["no_kl"].judge["parts"]["clip"] == str(clip)


def test_cosines_in_closed_form() -> None:
    """Of a code and what is turned by 60°; length does not count."""
    one = np.zeros((2, 3, 4))
    one[:, 0, 0] = 2.0
    other = np.zeros((2, 3, 4))
    other[0, 0, 0], other[0, 2, 3] = 5 * np.cos(np.pi / 3), 5 * np.sin(np.pi / 3)
    other[1, 1, 1] = -1.0
    np.testing.assert_allclose(code_cosines(one, other), [0.5, 0.0], atol=1e-15)
    np.testing.assert_allclose(code_cosines(one, -3 * one), [-1.0, -1.0])
    with pytest.raises(ValueError, match="one shape"):
        code_cosines(one, other[:1])
    with pytest.raises(ValueError, match="no direction"):
        code_cosines(one, np.zeros_like(one))
