"""Families behind the shared programs: a second one is a line in the table and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.strict import build
from stages import families, generate
from stages.evaluate import Settings, evaluate, main
from stages.evaluation.tables import to_markdown
from stages.pairs.clips import read_clips
from stages.pairs.samples import frames_of
from tests.stages.evaluation_run import CLIPS, COLOURS, make_shards, pipeline_file
from tests.stages.programs import python

N = CLIPS["test"] * len(COLOURS)


@pytest.fixture(autouse=True)
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(families.FAMILIES, "toy", "tests.stages.toy_family:FAMILY")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and no trained model at all."""
    folder = tmp_path_factory.mktemp("families") / "run"
    make_shards(folder)
    return folder


def results_of(run: Path, stages: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    pipeline = load_pipeline(pipeline_file(run, stages, **settings), stages=list(stages or ()))
    return dict(evaluate(pipeline, build(Settings, pipeline.stages["evaluate"], "here")).results)


def test_every_family_of_the_table_is_whole() -> None:
    for name in families.FAMILIES:
        one = families.family(name)
        assert one.name == name
        assert one.systems
        assert {system.name for system in one.systems}.isdisjoint({"upper_bound"})
    with pytest.raises(SettingsError, match=r"no family is called 'sound2scen'; did you mean"):
        families.family("sound2scen")


def test_another_family_is_scored_beside_the_real_frames(run: Path) -> None:
    found = results_of(run, systems=["dauber", "upper_bound"])
    dauber = found["systems"]["dauber"]
    assert dauber["R@1"]["value"] == 1  # every pitch has its colour
    assert "FID" not in dauber  # not one of its figures
    assert dauber["greyness"]["value"] > 100
    assert found["models"].keys() == {"toy"}
    text = to_markdown(found)
    header = next(line for line in text.splitlines() if line.startswith("| system"))
    # The union of what was measured, families' own last.
    assert header == "| system |  | R@1 % | IS | diversity | greyness | IS over splits |"
    assert "| Dauber (pitch → colour) | ours | 100.0 (" in text
    assert "|  | paper | 77.25 | – | – | – | – |" in text
    assert "The toy paper" in text
    assert "Sung-Bin" not in text  # nothing of a family that is not compared


def test_the_systems_of_a_pipeline_are_those_of_what_it_trains(run: Path) -> None:
    found = results_of(run, {"train_toy": {}})
    assert list(found["systems"]) == ["dauber", "upper_bound"]


def test_diversity_is_the_deviation_over_noises(run: Path) -> None:
    """The toy's noise has a deviation of 5 of 255, which enlarging to 256 px smooths."""
    found = results_of(run, systems=["dauber", "upper_bound"], judged_px=20)
    own, real = (found["systems"][name]["diversity"] for name in ("dauber", "upper_bound"))
    # White on white is clipped, so a third of the pictures vary a little less.
    assert own["value"] == pytest.approx(5 / 255, rel=0.1)
    clips = read_clips(str(run), "test")
    frames = [Image.fromarray(image) for image in frames_of(clips).read(range(len(clips)))]
    small = [np.asarray(f.resize((20, 20), Image.Resampling.BILINEAR), float) for f in frames]
    kinds = {
        name: np.stack([x for x, own in zip(small, clips.labels, strict=True) if own == [name]])
        for name in COLOURS
    }  # four clips of each: all of them are the pictures of each
    expected = [np.sqrt(kind.var(axis=0, ddof=1).mean()) / 255 for kind in kinds.values()]
    assert real["value"] == pytest.approx(np.mean(expected), rel=1e-6)
    assert own["low"] <= own["value"] <= own["high"]


def test_somebody_elses_pictures_are_a_system(run: Path, tmp_path: Path) -> None:
    """Right colours in another size score as the real frames do; a missing one is named."""
    for name, colour in COLOURS.items():
        for n in range(CLIPS["test"]):
            picture = Image.fromarray(np.full((9, 14, 3), colour, np.uint8))
            picture.save(tmp_path / f"test-{name}-{n}.png")
    found = results_of(run, systems=["upper_bound"], folders={"theirs": str(tmp_path)})
    assert found["systems"]["theirs"]["R@1"]["value"] == 1
    assert found["titles"]["theirs"] == f"theirs ({tmp_path.name})"
    (tmp_path / "test-sea-1.png").unlink()
    with pytest.raises(SettingsError, match=r"lacks pictures of 1 of 12 clips .* test-sea-1 first"):
        results_of(run, systems=["upper_bound"], folders={"theirs": str(tmp_path)})


def test_a_judge_who_does_not_know_real_frames_is_warned_of(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert results_of(run, systems=["upper_bound"])["warnings"] == []
    from stages.judges.thumbnail import Thumbnail

    blind = np.zeros((1, Thumbnail.dim), np.float32)
    monkeypatch.setattr(Thumbnail, "pictures", lambda _, images: blind.repeat(len(images), axis=0))
    monkeypatch.setattr(Thumbnail, "fingerprint", lambda _: {"extractor": "blind"})
    found = results_of(run, systems=["dauber"])
    (warning,) = found["warnings"]
    assert warning.startswith("R@k says little here: on real frames the judge is no better")
    assert "chance 33.3%" in warning
    assert f"**Warning:** {warning}" in to_markdown(found)


def test_pictures_feed_the_user_study(run: Path, tmp_path: Path) -> None:
    own = {"systems": ["dauber", "upper_bound"], "study_clips": 9}
    main([str(pipeline_file(run, **own))])
    items = run / "stages" / "evaluate" / "study" / "items.jsonl"
    rows = [json.loads(line) for line in items.read_text().splitlines()]
    assert [row["label"] for row in rows].count("sea") == 3  # as many of each class
    sound, rate_hz = soundfile.read(items.parent / rows[0]["sound"])
    assert (len(sound), rate_hz) == (8000, 16_000)
    words = ["build", str(items), str(tmp_path / "study"), "--questions", "4"]
    names = ["--ours", "dauber", "--rival", "upper_bound", "--protocol", "recall"]
    done = python(["-m", "stages.user_study", *words, *names])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study" / "study.html").is_file()


def test_commands_say_which_families_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        generate.main(["sound", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "Families: Sound2Scene, AVStyle, Robust sound-guided manipulation, Toy." in said
    with pytest.raises(SystemExit) as end:
        generate.main(["invert", "x.png", "--family", "toy", "-o", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "toy has no command invert; these have: sound2scene" in capsys.readouterr().err
    generate.main(["dab", "--device", "cpu", "-o", str(tmp_path / "out")])
    assert capsys.readouterr().out == "a dab of 20 px on cpu\n"
    with pytest.raises(SystemExit) as end:
        generate.main(["dab", "--generator", "x", "--family", "toy", "-o", str(tmp_path / "out")])
    assert "--generator: toy has no such part; it has --brush" in capsys.readouterr().err


def test_shared_commands_work_for_every_family_that_can(tmp_path: Path) -> None:
    wave = 0.3 * np.sin(2 * np.pi * 900 * np.arange(8000) / 16_000)
    soundfile.write(tmp_path / "sea.wav", wave, 16_000)
    out = tmp_path / "out"
    words = ["sweep", str(tmp_path / "sea.wav"), "--gains-db", "-20", "0", "-n", "2"]
    generate.main([*words, "--family", "toy", "-o", str(out)])
    result = json.loads((out / "result.json").read_text())
    assert len(result["rows"]) == 2
    picture = np.asarray(Image.open(out / result["rows"][0]["images"][0]), float)
    np.testing.assert_allclose(picture.mean(axis=(0, 1)), COLOURS["sea"], atol=2)
