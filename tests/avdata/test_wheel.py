"""The wheel, installed and used from an empty folder: nothing of the repository is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from avdata.shipped import shipped_names
from tests.media_factory import make_video, noise_track

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("avdata", "stages", "manifests", "pipelines", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, as setuptools leaves its work beside the sources."""
    folder = tmp_path_factory.mktemp("source")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder)
    command = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", "."]
    pip(*command, cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=target)
    return target


def pip(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    cwd.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_that_is_no_code_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = [path for top in ("avdata", "stages") for path in (ROOT / top).rglob("*")]
    wanted = {
        str(path.relative_to(ROOT))
        for path in files
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }
    wanted |= {f"avdata/data/{path.relative_to(ROOT)}" for path in ROOT.glob("pipelines/*.yaml")}
    wanted |= {f"avdata/data/{path.relative_to(ROOT)}" for path in ROOT.glob("manifests/*.yaml")}
    assert wanted <= names
    assert len(wanted) > 150


def test_commands_find_what_they_need_by_name(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    where = run(installed, empty, "-c", "import avdata, stages; print(avdata.__file__)")
    assert where.stdout.startswith(str(installed)), where.stderr
    listed = run(installed, empty, "-m", "avdata.cli", "manifest", "list")
    assert "vggsound_sound2scene50" in listed.stdout, listed.stderr
    missing = run(installed, empty, "-m", "avdata.cli", "run", "dmo")
    assert missing.returncode == 2
    assert all(name in missing.stderr for name in shipped_names("pipelines"))
    path = run(installed, empty, "-m", "avdata.cli", "run", "pipelines/demo.yaml")
    assert "called by its name: demo" in path.stderr
    assert "Traceback" not in missing.stderr + path.stderr


def test_the_demo_pipeline_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    make_video(empty / "hike.mp4", seconds=9, sound=noise_track(9, 16000))
    (empty / "mine.csv").write_text("url\nhike.mp4\n")
    overrides = ("manifest=mine.csv", "steps.tag.taggers=[loudness]", "steps.select.reject={}")
    sets = [word for override in overrides for word in ("--set", override)]
    done = run(installed, empty, "-m", "avdata.cli", "run", "demo", *sets)
    assert done.returncode == 0, done.stderr
    assert (empty / "runs/demo/report.html").is_file()
    stage = run(installed, empty, "-m", "stages.train_localizer", "demo", "--set", "nothing=1")
    assert stage.returncode == 2
    assert "unknown key 'nothing'" in stage.stderr
