"""Figures of restyled pictures: by hand, on a family that tints pictures by the pitch it hears."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from avdata.audio.spec import AVC
from avdata.config import load_pipeline
from avdata.errors import AvdataError, SettingsError, ShardError, WeightsError
from avdata.strict import build
from stages import families
from stages.engine.checkpoint import ModelCard, save_weights
from stages.evaluate import Settings, evaluate
from stages.evaluation.contents import of_another_class
from stages.evaluation.figures import COLUMNS
from stages.evaluation.judges import open_pair_judges
from stages.evaluation.page import page
from stages.evaluation.questions import ranked_methods, read_items
from stages.evaluation.restyling import OTHERS
from stages.evaluation.studio import Studio
from stages.evaluation.system import System
from stages.evaluation.tables import restyled_tables, to_markdown
from stages.evaluation.wishes import RestylingSettings
from stages.judges.clip import ClipEncoder
from stages.judges.correspondence import AvcEncoder
from stages.metrics.bootstrap import bootstrap_mean
from stages.metrics.structure import edge_correlation
from stages.nn.avc import AvcNetwork
from stages.pairs.clips import Clips, read_clips
from stages.pairs.features import FeatureCache
from stages.pairs.samples import frames_of, sounds_of
from tests.stages import toy_tinter
from tests.stages.evaluation_run import CLIPS, COLOURS, make_shards, pipeline_file
from tests.stages.judges.test_judges import save_clip
from tests.stages.toy_tinter import FAMILY, at_gain, untouched

N = CLIPS["test"] * len(COLOURS)
SYSTEMS = ["tinter", "untouched"]


class Hue(AvcEncoder):
    """Mean colours and loudest pitches, which belong together where the toy's table says so."""

    dim, description = 3, "the toy's own table of colours"

    def __init__(self, rate_hz: int = 16_000) -> None:
        self.rate_hz = rate_hz

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "hue"}

    def pictures(self, images: Any) -> NDArray[np.float32]:
        return np.stack([image.mean(axis=(0, 1)) for image in images]).astype(np.float32)

    def sounds(self, sounds: Any) -> NDArray[np.float32]:
        hz = [np.argmax(np.abs(np.fft.rfft(x))) * self.rate_hz / len(x) for x in sounds]
        names = ["fire" if f < 600 else "sea" if f < 1500 else "snow" for f in hz]
        return np.array([COLOURS[name] for name in names], np.float32)

    def correspondence(self, pictures: Any, sounds: Any) -> NDArray[np.float64]:
        return 1 - np.abs(pictures.astype(float) - sounds).mean(axis=1) / 255


@pytest.fixture(autouse=True)
def restyler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.FAMILIES, "tinters", "tests.stages.toy_tinter:FAMILY")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restyling") / "run"
    make_shards(folder)
    return folder


@pytest.fixture(scope="module")
def studio(run: Path) -> Studio:
    test = read_clips(str(run), "test").where(
        own != ["a class of its own"] for own in read_clips(str(run), "test").labels
    )
    cache = FeatureCache(run / "by hand", 4, 0)
    return Studio(
        FAMILY.open,  # type: ignore[arg-type]
        test,
        [own[0] for own in test.labels],
        read_clips(str(run), "train"),
        cache,
        run / "pictures by hand",
        3,
    )


def scored(run: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    """Evaluate with the toy's judge in the place of OpenL3."""
    monkeypatch.setattr(
        "stages.judges.openl3.OpenL3.load", lambda *_, rate_hz, **_options: Hue(rate_hz)
    )
    pipeline = load_pipeline(pipeline_file(run, **{"systems": SYSTEMS, **settings}), stages=())
    return evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here"))


def mean(values: Any, clips: Clips, rows: Any = None) -> Any:
    rows = range(len(clips)) if rows is None else rows
    clusters = [clips.sources[row] for row in rows]
    return pytest.approx(
        bootstrap_mean(values, clusters=clusters, resamples=50, seed=3).to_json(), rel=1e-6
    )


def test_figures_are_what_they_are_by_hand(
    run: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scored(run, monkeypatch, restyling={"changes": []}).results["systems"]["tinter"]
    contents = of_another_class(studio)
    before = frames_of(contents).resized(24).read(range(N))
    after = at_gain(studio, 1.0).read(range(N))
    kept = [edge_correlation(a, b) for a, b in zip(before, after, strict=True)]
    assert found["structure"] == mean(kept, studio.test)
    assert min(kept) > 0.9

    judge = Hue()
    big = at_gain(studio, 1.0).resized(256).read(range(N))
    v, a = judge.pictures(big), judge.sounds(sounds_of(studio.test, 16_000).read(range(N)))
    own = judge.correspondence(v, a)
    assert found["AVC"] == mean(own, studio.test)
    leads = []
    for row, name in enumerate(studio.classes):
        others = [n for n, other in enumerate(studio.classes) if other != name]
        assert len(others) <= OTHERS
        leads.append(own[row] - np.mean([judge.correspondence(v[[row]], a[[n]]) for n in others]))
    assert found["AVC_lead"] == mean(leads, studio.test)
    assert found["AVC_lead"]["low"] > 0

    seen = [own[0] for own in contents.labels]
    changes = {f"{a}→{b}" for a, b in zip(seen, studio.classes, strict=True)}
    assert set(found["changes"]) == changes
    change = next(iter(sorted(changes)))
    rows = [r for r in range(N) if f"{seen[r]}→{studio.classes[r]}" == change]
    told = dict(found["changes"][change])
    assert told.pop("clips") == len(rows)
    assert told == mean(own[rows], studio.test, rows)


def test_a_tint_is_followed_and_an_untouched_picture_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = scored(run, monkeypatch).results
    tinter, same = (results["systems"][name] for name in SYSTEMS)
    assert tinter["follows"]["value"] == tinter["R@1"]["value"] > 0.9
    assert tinter["louder"]["value"] == 1
    grows = [tinter["change_by_gain"][gain]["value"] for gain in ("0.25", "0.5", "1", "2")]
    assert grows == sorted(grows)
    assert same["follows"]["value"] == same["louder"]["value"] == 0
    assert same["stays"]["value"] == same["structure"]["value"] == 1
    assert same["change_by_gain"]["2"]["value"] == 0
    assert same["AVC"]["value"] < tinter["AVC"]["value"]
    assert results["chance"]["follows"] == results["chance"]["stays"] == pytest.approx(1 / 3)
    assert "changes" not in same  # none of the paper's scenes is here


def test_real_frames_are_the_target_where_others_are_asked(
    run: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their AVC is measured beside a system's that has it; alone, no judge is opened."""
    both = scored(run, monkeypatch, systems=["tinter", "upper_bound"]).results["systems"]
    judge = Hue()
    frames = frames_of(studio.test).resized(256).read(range(N))
    sounds = judge.sounds(sounds_of(studio.test, 16_000).read(range(N)))
    own = judge.correspondence(judge.pictures(frames), sounds)
    assert both["upper_bound"]["AVC"] == mean(own, studio.test)
    alone = scored(run, monkeypatch, systems=["upper_bound"]).results
    assert "AVC" not in alone["systems"]["upper_bound"]
    assert alone["judges"]["AVC"] is alone["judges"]["why_not_avc"] is None
    assert "AVC" not in to_markdown(alone)


def test_a_study_shows_what_was_restyled(
    run: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = load_pipeline(pipeline_file(run, systems=SYSTEMS), stages=())
    scored(run, monkeypatch)
    folder = Path(pipeline.output) / "stages/evaluate/study"
    items = read_items(folder / "items.jsonl")
    assert ranked_methods(items, ()) == ("tinter", "untouched")
    frames = frames_of(of_another_class(studio)).resized(256)
    for item in items:
        assert item.content is not None
        (wanted,) = frames.read([studio.test.keys.index(item.id)])
        np.testing.assert_array_equal(np.asarray(Image.open(item.content)), wanted)


def test_scenes_are_a_setting(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = {"fire": "sunny", "sea": "rainy"}
    found = scored(run, monkeypatch, restyling={"scenes": scenes}).results["systems"]
    assert set(found["tinter"]["changes"]) == {"sunny→rainy"}
    again = scored(run, monkeypatch, restyling={"scenes": scenes, "changes": []}).results["systems"]
    assert set(again["tinter"]["changes"]) == {"sunny→rainy", "rainy→sunny"}


def test_clip_compares_with_the_labels(
    run: Path, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [*"aefinorsw", *(f"{c}</w>" for c in "aefinorsw")]
    tokens = [*letters, "<|startoftext|>", "<|endoftext|>"]
    folder = save_clip(tmp_path / "clip", {token: i for i, token in enumerate(tokens)}, [])
    evaluation = scored(
        run, monkeypatch, clip=str(folder), recall="probe", restyling={"prompt": "a {} row"}
    )
    clip = ClipEncoder.load(str(folder))
    seen = clip.pictures(at_gain(studio, 1.0).resized(256).read(range(N)))
    said = clip.texts([f"a {name} row" for name in studio.classes])
    cosines = (seen * said).sum(axis=1)
    assert np.ptp(cosines) > 1e-6
    found = evaluation.results
    assert found["systems"]["tinter"]["CLIP"]["value"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert "probe" in found["judges"]["R@k"]
    assert f"ours, CLIP: {folder}, raw cosine; text: “a {{}} row”" in to_markdown(found)


def test_tables_are_in_the_papers_layout(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = scored(run, monkeypatch, restyling={"changes": []})
    text = to_markdown(evaluation.results)
    own = evaluation.results["systems"]["tinter"]
    lines = text.splitlines()
    theirs = lines.index("| Theirs | paper | 0.820 | 34.139 | 0.238 |")
    ours = [cell.strip() for cell in lines[theirs + 1].split("|")[1:-1]]
    assert ours[:2] == ["", "ours"]
    assert ours[2].startswith(f"{own['AVC']['value']:.3f} (")
    assert ours[3].startswith(f"{own['FID']['value']:.2f} (")
    assert ours[4] == "–"  # no CLIP here
    assert "| Target pictures | paper | 0.842 | – | 0.247 |" in lines
    scenes = lines.index("| tinter | paper | 0.831 | 0.816 |")
    assert lines[scenes + 1].startswith(f"|  | ours | {own['changes']['fire→sea']['value']:.3f} (")
    assert "|  | paper |" in text  # and in the main table: |  | paper | … 0.820
    assert "ours, AVC: the toy's own table of colours" in text
    assert "ours: no CLIP similarity:" in text
    html = page(evaluation)
    assert "AVC by change of scene" in html
    assert "Untouched (the picture as it was)" in html


def test_changes_stand_in_rows_those_of_the_most_clips() -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    changes = {f"a→{n}": {**figure, "clips": n} for n in range(1, 16)}
    results = {
        "columns": [asdict(column) for column in COLUMNS],
        "systems": {"x": {"AVC": figure, "changes": changes}, "y": {"AVC": figure}},
        "titles": {"x": "X (so)", "y": "Y"},
        "reported": {"x": {"AVC": None}, "y": {"AVC": 0.8}},
        "chance": {},
        "judges": {"AVC": "somebody", "why_not_avc": None, "CLIP": None, "why_no_text": None},
        "restyling": {},
    }
    figures, table = restyled_tables(results)
    assert [row[1] for row in figures.rows] == ["ours", "ours", "paper"]  # none of dashes alone
    assert table.header == ("ours", "clips", "X")
    assert [row[0] for row in table.rows] == [f"a→{n}" for n in range(4, 16)]
    assert table.rows[0] == ("a→4", "4", "0.500 (0.400 to 0.600)")
    assert "of 15 changes those 12 with the most clips" in table.notes[0]


def test_without_a_judge_the_others_are_told(run: Path, tmp_path: Path) -> None:
    """Neither OpenL3 nor train_avc: no AVC, and why not; a judge that is named is demanded."""
    pipeline = load_pipeline(pipeline_file(run, systems=SYSTEMS), stages=())
    settings = build(Settings, pipeline.stages["evaluate"], "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVDATA_CACHE", str(tmp_path))
        patch.setattr("avdata.weights.get", _nowhere)
        found = evaluate(pipeline, settings).results
        assert "AVC" not in found["systems"]["tinter"]
        assert "train_avc is not done here" in to_markdown(found)
        for name, message in (("openl3", "no network"), ("/nowhere", "/nowhere")):
            own = {**pipeline.stages["evaluate"], "restyling": {"avc": name}}
            with pytest.raises(AvdataError, match=message):
                evaluate(pipeline, build(Settings, own, "here"))


def test_what_is_here_judges_before_what_would_have_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train_avc's network where OpenL3 is not in the cache: no network is asked for it."""
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("avdata.weights.get", _nowhere)
    own, sizes = tmp_path / "train_avc", {"width": 4, "dim": 8, "image_px": 32}
    own.mkdir()
    card = ModelCard(name="avc", settings=sizes, audio=AVC)
    save_weights(own / "model.safetensors", AvcNetwork(**sizes).state_dict(), card.metadata())
    device = torch.device("cpu")
    found = open_pair_judges({"correspondence"}, "auto", own, 8_000, "clip", device)
    assert found.avc is not None
    assert found.avc.rate_hz == 8_000
    assert "train_avc" in found.avc.description
    assert "not in the cache" in str(found.why_not_avc)
    with pytest.raises(WeightsError, match="no network"):
        open_pair_judges({"correspondence"}, "openl3", own, 8_000, "clip", device)
    assert open_pair_judges({"recall"}, "openl3", own, 8_000, "clip", device).avc is None


def _nowhere(name: str, **_: Any) -> Path:
    raise WeightsError(f"{name}: no network")


def test_contents_are_of_another_class_and_drawn_by_seed(studio: Studio) -> None:
    contents = of_another_class(studio)
    assert len(contents) == N
    for own, content in zip(studio.classes, contents.labels, strict=True):
        assert content[0] != own
    assert of_another_class(studio).keys == contents.keys
    assert untouched(studio, 0).read([3])[0].shape == (24, 24, 3)
    assert of_another_class(replace(studio, seed=4)).keys != contents.keys
    one = studio.test.where(name == "sea" for name in studio.classes)
    with pytest.raises(ShardError, match="all 4 clips of test are of the class sea"):
        of_another_class(replace(studio, test=one, classes=["sea"] * 4))


def test_a_figure_without_contents_is_a_mistake_in_the_record(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = System(name="bare", title="Bare", samples=untouched, figures=("structure",))
    monkeypatch.setattr(toy_tinter, "FAMILY", replace(FAMILY, systems=(bare,)))
    with pytest.raises(SettingsError, match=r"system bare .* its record names none"):
        scored(run, monkeypatch, systems=["bare"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "rain"}, "prompt must hold {}"),
        ({"changes": ["sunny to rainy"]}, "picture→sound"),
        ({"gains": [1.0]}, "gains must be two or more"),
        ({"gains": [1.0, -1.0]}, "gains must be two or more"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build(RestylingSettings, settings, "here")


def test_results_are_plain(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = scored(run, monkeypatch).results
    assert json.loads(json.dumps(results))["restyling"]["gains"] == [0.25, 0.5, 1.0, 2.0]
