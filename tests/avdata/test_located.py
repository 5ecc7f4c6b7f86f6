"""Paths in a pipeline file: from the working directory, else from beside the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.located import check_found
from stages.engine.launch import read_settings
from stages.evaluate import Settings as Evaluate
from stages.evaluate_localizer import Settings as EvaluateLocalizer

TEXT = """
manifest: lists/m.csv
steps:
  fetch: {cookies_file: cookies.txt}
  select: {localizer: models/l.onnx, moments: gone.json}
  tag: {yamnet: {weights: w.tflite}}
stages:
  evaluate_localizer: {truth: truth, localizer: models/l.onnx}
  evaluate: {folders: {theirs: pictures}, clip: openai/clip}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline file in a folder of its own, all that it names beside it; we work elsewhere."""
    project = tmp_path / "project"
    for name in (
        "lists/m.csv",
        "cookies.txt",
        "models/l.onnx",
        "w.tflite",
        "truth/x",
        "pictures/x",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("url\n")
    (project / "p.yaml").write_text(TEXT)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return project


def test_what_lies_only_beside_the_file_is_found_there(project: Path) -> None:
    pipeline = load_pipeline(project / "p.yaml")
    assert pipeline.manifest == str(project / "lists/m.csv")
    assert pipeline.steps.fetch.cookies_file == str(project / "cookies.txt")
    assert pipeline.steps.select.localizer == str(project / "models/l.onnx")
    assert pipeline.steps.tag.yamnet.weights == str(project / "w.tflite")
    assert pipeline.steps.select.moments == "gone.json"
    path = str(project / "p.yaml")
    _, localizer = read_settings(path, (), "evaluate_localizer", EvaluateLocalizer)
    assert (localizer.truth, localizer.localizer) == (
        str(project / "truth"),
        str(project / "models/l.onnx"),
    )
    _, evaluate = read_settings(path, (), "evaluate", Evaluate)
    assert evaluate.folders == {"theirs": str(project / "pictures")}
    assert evaluate.clip == "openai/clip"


def test_the_working_directory_goes_before(project: Path) -> None:
    Path("lists").mkdir()
    Path("lists/m.csv").write_text("url\n")
    pipeline = load_pipeline(project / "p.yaml", [f"steps.fetch.cookies_file={project}/none.txt"])
    assert pipeline.manifest == "lists/m.csv"
    assert pipeline.steps.fetch.cookies_file == f"{project}/none.txt"


def test_what_is_nowhere_is_said_with_both_places(project: Path) -> None:
    pipeline = load_pipeline(project / "p.yaml")
    with pytest.raises(SettingsError, match=r"steps\.select\.moments") as raised:
        check_found(pipeline, project)
    assert os.getcwd() in str(raised.value)
    assert str(project) in str(raised.value)
    check_found(pipeline, project, {"manifest", "steps.select.localizer"})


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["avdata.cli", "run", "P", "--set", "manifest=no.csv"], "manifest"),
        (["avdata.cli", "run", "P", "--set", "steps.select.scorer=moments"], "select.moments"),
        (["avdata.cli", "fetch", "m.csv", "-o", "x", "-c", "P", "--set",
          "steps.fetch.cookies_file=no.txt"], "cookies_file"),
        (["stages.evaluate_localizer", "P", "--set",
          "stages.evaluate_localizer.truth=nowhere"], "truth"),
    ],
)  # fmt: skip
def test_programs_say_where_they_looked(project: Path, arguments: list[str], key: str) -> None:
    words = [str(project / "p.yaml") if word == "P" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"{key}: there is no" in done.stderr
    assert f"working directory {os.getcwd()} nor beside" in done.stderr
    assert str(project) in done.stderr
    assert not Path("runs").exists()  # nothing was begun
