"""The table of programs: complete, every committed section is built, misspelt ones are errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from avdata import stage_names
from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.strict import build
from stages.programs import programs, settings_class
from tests.stages.programs import ROOT, python
from tests.stages.toy_runs import run_here

PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))
SECTIONS = [(path, name) for path in PIPELINES for name in load_pipeline(path).stages]
DEMO = ROOT / "pipelines" / "demo.yaml"


def test_the_table_has_every_program_that_reads_a_section() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "stages").glob("*.py")}
    launched = {
        name for name, text in texts.items() if re.search(r"^ +launch(_work)?\(", text, re.M)
    }
    assert launched == programs().keys()
    for does in programs().values():
        assert re.fullmatch(r"[A-Z].{10,90}\.", does)


@pytest.mark.parametrize("name", programs())
def test_every_program_has_settings_with_defaults(name: str) -> None:
    build(settings_class(name), {}, name)


@pytest.mark.parametrize(
    ("path", "name"), SECTIONS, ids=lambda value: getattr(value, "stem", value)
)
def test_every_committed_section_is_built(path: Path, name: str) -> None:
    section = load_pipeline(path).stages[name]
    assert section, f"{path}: stages.{name} is empty"
    build(settings_class(name), section, f"{path}: stages.{name}")


def test_sections_were_found() -> None:
    assert len(PIPELINES) >= 5
    assert {name for path, name in SECTIONS if path == DEMO} >= {
        "train_icgan",
        "evaluate",
        "ablate",
    }


@pytest.mark.parametrize(
    "command",
    [
        ["stages.train_icgan", DEMO],
        ["stages.evaluate", DEMO],
        ["stages.ablate", DEMO],
        ["avdata.cli", "run", DEMO],
        ["avdata.cli", "trim", "manifest.csv", "--config", DEMO],
        ["avdata.cli", "trim", "manifest.csv"],
    ],
    ids=lambda words: " ".join(str(word).rpartition("/")[-1] for word in words),
)
def test_a_misspelt_stage_is_an_error(command: list[str | Path], tmp_path: Path) -> None:
    """Set where only the command line knows of it, so that nothing else can object first."""
    words = ["-m", *command, "--set", "stages.train_icgn.g_lr=1", "--set", f"output={tmp_path}/run"]
    done = python(words)
    assert done.returncode == 2
    assert "unknown stage 'train_icgn'; did you mean train_icgan?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_misspelt_stage_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("stages: {evaluate: {}, evaluate_localiser: {}}")
    with pytest.raises(SettingsError, match=r"typo\.yaml: stages: .*did you mean evaluate_loc"):
        load_pipeline(path)
    path.write_text("stages: {generate: {}}")  # a program, but it reads no section
    with pytest.raises(SettingsError, match=r"unknown stage 'generate'; .*evaluate"):
        load_pipeline(path)


def test_a_program_of_one_s_own_knows_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train_toy` is in no table; here it fails later, as there are no shards."""
    path = tmp_path / "toy.yaml"
    words = f"output: {tmp_path / 'run'}\nstages:\n  train_toy: {{train: {{device: cpu}}}}\n"
    path.write_text(words)
    with pytest.raises(SettingsError, match="unknown stage 'train_toy'"):
        load_pipeline(path)
    with pytest.raises(SystemExit, match="2"):
        run_here(path)
    assert "not a folder of shards" in capsys.readouterr().err
    path.write_text(words + "  train_toi: {}\n")
    with pytest.raises(SystemExit, match="2"):
        run_here(path)
    assert "unknown stage 'train_toi'; did you mean train_toy?" in capsys.readouterr().err


def test_the_data_half_reads_the_names_without_importing_the_stages() -> None:
    code = (
        "import sys; from avdata.config import load_pipeline; "
        f"load_pipeline({str(DEMO)!r}); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "avdata.stage_names" in loaded
    assert not loaded & {"stages", "stages.programs", "torch"}


def test_the_data_half_alone_knows_no_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_names, "find_spec", lambda _: None)
    stage_names.stage_programs.cache_clear()
    path = tmp_path / "any.yaml"
    path.write_text("stages: {anything: {}}")
    try:
        assert load_pipeline(path).stages == {"anything": {}}
    finally:
        stage_names.stage_programs.cache_clear()
