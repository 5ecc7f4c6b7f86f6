"""Scoring localizers: known boxes, known moments, clear refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avdata.clip import Selection, Status
from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.tables import write_clips
from stages.evaluate_localizer import (
    Settings,
    evaluate,
    main,
    read_boxes,
    require_whole_pictures,
)
from tests.clip_factory import RATE_HZ, ClipFactory
from tests.localizer_factory import export_localizer
from tests.stages.programs import python

SIDE_PX = 64
HALVES = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
}


def lit(box: tuple[float, float, float, float], colour: tuple[int, int, int]) -> np.ndarray:
    """A picture that is dark but for one box."""
    image = np.full((SIDE_PX, SIDE_PX, 3), 20, np.uint8)
    left, top, right, bottom = (round(share * SIDE_PX) for share in box)
    image[top:bottom, left:right] = colour
    return image


def run_folder(
    folder: Path, bbox: dict[str, Any] | None = None, *, visible: tuple[float, float] = (10.5, 11.0)
) -> Path:
    """Four clips of 2 s, from second 10 of their videos, with frames at 0, 0.5, 1 and 1.5 s.

    A half of each frame is lit: green in the second frame, red in the others. The sound is that
    which tests.localizer_factory matches with green.
    """
    factory = ClipFactory(folder)
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    clips = []
    for name, box in HALVES.items():
        frames = [lit(box, (40, 250, 40) if i == 1 else (250, 40, 40)) for i in range(4)]
        clip = factory.clip(
            name,
            frames,
            [0.0, 0.5, 1.0, 1.5],
            0.3 * np.sin(2 * np.pi * 1500 * t),
            url=f"http://127.0.0.1:8917/{name}.mp4",
            start_ms=10_000,
            end_ms=12_000,
            status=Status.ACCEPTED,
            attributes={} if bbox is None else {"bbox": json.dumps(bbox.get(name, [box]))},
            selection=Selection("av_sync", (0.0, 0.0, 0.0, 1.0), (3,)),
        )
        clips.append(clip)
        truth = {"visible": [{"start_s": visible[0], "end_s": visible[1]}]}
        (folder / f"{name}.json").write_text(json.dumps(truth))
    factory.part()
    write_clips(folder / "select.parquet", clips)
    export_localizer(folder / "localizer.onnx")
    return folder


def pipeline_file(folder: Path, fit: str = "squash", **settings: Any) -> Path:
    path = folder / "pipeline.yaml"
    section = {"localizer": str(folder / "localizer.onnx"), "split": None, **settings}
    tree = {
        "name": "made",
        "output": str(folder),
        "steps": {"trim": {"fit": fit}},
        "stages": {"evaluate_localizer": section},
    }
    path.write_text(json.dumps(tree))
    return path


def results(folder: Path, **settings: Any) -> dict[str, Any]:
    pipeline = load_pipeline(pipeline_file(folder))
    given = {"localizer": str(folder / "localizer.onnx"), "split": None, **settings}
    return evaluate(pipeline, Settings(**given))


def test_selection_is_held_against_the_truth(tmp_path: Path) -> None:
    """The source is in view in the second frame of four: the localizer alone picks it."""
    folder = run_folder(tmp_path / "run")
    found = results(folder, truth=str(folder))["selection"]
    assert (found["clips"], found["videos"]) == (4, 4)
    values = {way: figure["value"] for way, figure in found["shows_the_source"].items()}
    assert values == {
        "localizer": 1.0,
        "mid frame": 0.0,
        "any frame": 0.25,
        "picked in the run (av_sync)": 0.0,
        "possible": 1.0,
    }
    assert found["localizer_ahead_of"]["mid frame"]["value"] == 1.0
    assert found["localizer_ahead_of"]["any frame"]["low"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("visible", "any_frame"),
    [((10.0, 12.0), 1.0), ((10.5, 11.5), 0.5), ((10.501, 11.5), 0.5), ((10.51, 11.5), 0.25)],
)
def test_intervals_hold_their_start_and_not_their_end(
    tmp_path: Path, visible: tuple[float, float], any_frame: float
) -> None:
    folder = run_folder(tmp_path / "run", visible=visible)
    found = results(folder, truth=str(folder))["selection"]
    assert found["shows_the_source"]["any frame"]["value"] == any_frame


def test_maps_are_held_against_boxes(tmp_path: Path) -> None:
    """The map is the brightness, a half is lit and boxed: cIoU is 1. The centre's disc of half the
    area meets a half by a third: (1/4) / (1/2 + 1/4)."""
    folder = run_folder(tmp_path / "run", bbox={})
    found = results(folder)["localisation"]
    assert found["clips"] == 4
    assert found["left_out"] == []
    assert found["cIoU"]["localizer"]["value"] == 1.0
    assert found["AUC"]["localizer"]["value"] > 0.93
    assert found["cIoU"]["centre of the picture"]["value"] == 0.0
    # (thresholds at or below 1/3: 0, .05 ... .30) by trapezoids
    assert found["AUC"]["centre of the picture"]["value"] == pytest.approx(0.325, abs=0.001)


def test_boxes_elsewhere_score_nothing(tmp_path: Path) -> None:
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    wrong = {name: [HALVES[other]] for name, other in opposite.items()}
    found = results(run_folder(tmp_path / "run", bbox=wrong))["localisation"]
    assert found["cIoU"]["localizer"]["value"] == 0.0
    assert found["AUC"]["localizer"]["value"] < 0.1


def test_unreadable_boxes_are_left_out_by_name(tmp_path: Path) -> None:
    bad = {"left": "everywhere", "right": [[0.5, 0.5, 0.5, 0.9]], "top": [[0.0, -0.1, 1.2, 0.5]]}
    found = results(run_folder(tmp_path / "run", bbox=bad))["localisation"]
    assert found["left_out"] == ["left", "right"]
    assert found["clips"] == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "[1, 2, 3, 4]", "[[0, 0, 1]]", "[[0, 0, 1, NaN]]", '{"a": 1}']
)
def test_what_is_no_list_of_boxes(tmp_path: Path, text: str) -> None:
    factory = ClipFactory(tmp_path)
    assert read_boxes(factory.clip("a", [], [], None, attributes={"bbox": text})) is None


def test_cut_pictures_cannot_be_held_against_boxes(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", bbox={})
    with pytest.raises(SettingsError, match=r"trim\.fit is crop; run the data half with fit"):
        require_whole_pictures(load_pipeline(pipeline_file(folder, fit="crop")))


def test_the_program_writes_json_and_tables(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", bbox={})
    path = pipeline_file(folder, truth=str(folder))
    done = python(["-m", "stages.evaluate_localizer", path])
    assert done.returncode == 0, done.stderr
    written = folder / "stages" / "evaluate_localizer"
    tree = json.loads((written / "results.json").read_text())
    assert tree["selection"]["clips"] == tree["localisation"]["clips"] == 4
    assert (written / "results.md").read_text() == done.stdout
    assert (written / "section.html").read_text().startswith("<h2>Localizer</h2>")
    assert "| localizer | 100.0 | 100.0 to 100.0 |" in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no accepted clip .* carries bbox"),
        ({"truth": "nowhere"}, "truth: there is no nowhere, neither in the working directory"),
        ({"truth": "EMPTY"}, r"no ground truth of clip left in .*/left\.json"),
        ({"truth": "EMPTY", "split": "test"}, "without shards there are no splits"),
        ({"localizer": "gone.onnx"}, "localizer: there is no gone.onnx, neither in"),
        ({"splitt": "test"}, "did you mean split"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    given = {k: str(tmp_path / "empty") if v == "EMPTY" else v for k, v in settings.items()}
    path = pipeline_file(run_folder(tmp_path / "run"), **given)
    with pytest.raises(SystemExit) as ended:
        main([str(path)])
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
