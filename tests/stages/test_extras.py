"""Programs without their extra say which one it is."""

from __future__ import annotations

import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from stages.extras import EXTRAS
from tests.stages.programs import ROOT, python

PROGRAMS = sorted(
    path.stem
    for path in (ROOT / "stages").glob("*.py")
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
)
DEMO = ROOT / "pipelines" / "demo.yaml"
ARGUMENTS = {"generate": ["image", "a.jpg", "--run", "nowhere"], "user_study": ["--help"]}
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def without(folder: Path, *modules: str) -> str:
    """Return a PYTHONPATH with which these modules cannot be imported."""
    (folder / "sitecustomize.py").write_text(BLOCKER.format(blocked=set(modules)))
    return f"{folder}:{ROOT}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_any_extra(name: str, tmp_path: Path) -> None:
    words = ["-m", f"stages.{name}", *ARGUMENTS.get(name, [DEMO])]
    words += [] if name in ARGUMENTS else ["--set", f"output={tmp_path / 'run'}"]
    done = python(words, PYTHONPATH=without(tmp_path, *EXTRAS))
    assert "Traceback" not in done.stderr
    if name == "user_study":  # which needs none
        assert done.returncode == 0
        return
    assert done.returncode == 2
    extras = "train,eval" if name in ("evaluate", "ablate") else "train"
    assert done.stderr.startswith(f"{name}: the package ")
    assert f"run: pip install 'avdata[{extras}]'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_other_failures_keep_their_traceback(tmp_path: Path) -> None:
    words = ["-m", "stages.train_icgan", DEMO]
    done = python(words, PYTHONPATH=without(tmp_path, "PIL"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "No module named 'PIL'" in done.stderr


def test_every_package_of_the_extras_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = packages_distributions()
    for extra in ("train", "eval"):  # [umap] is not installed for tests
        for requirement in project["optional-dependencies"][extra]:
            package = requirement.replace("==", ">=").partition(">=")[0]
            modules = {m for m, names in installed.items() if package in names} & EXTRAS.keys()
            assert {EXTRAS[module] for module in modules} == {extra}, requirement
