"""The floors of the house: who may import whom.

A floor knows nothing above it, not even for annotations or inside a function. No circle: of imports
that run, whenever that is; two files may name each other's types.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.import_graph import Graph, circles, import_graph

ROOT = Path(__file__).parents[2]
FAMILIES = {"sound2scene", "adain", "avstyle", "sound_guided", "sound2vision"}
TABLES = {"families", "models", "programs"}  # what there is by name, imported when it is used
MAY_IMPORT: dict[str, set[str]] = {
    "programs": set(),
    "models": {"families"},
    "families": {"family", "generation"},  # what a record is, for annotations
    "nn": set(),
    "losses": set(),
    "metrics": set(),
    "engine": {"nn", *TABLES},
    "image_encoder": {"engine", "losses", "nn", *TABLES},
    "localizer": {"engine", "losses", "nn", *TABLES},
    "stylegan2": {"engine", "losses", "nn", *TABLES},
    "stylegan3": {"stylegan2", "engine", "losses", "nn", *TABLES},
    "text_image": {"engine", "losses", "nn", *TABLES},
    "pairs": {"engine", "image_encoder", "nn", *TABLES},
}
"""Of a floor of `stages`: the floors, beside itself, that it stands on."""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return import_graph(ROOT, "avdata", "stages")


def floor(module: str) -> str:
    """Return `engine` of `stages.engine.run`, and `evaluate` of `stages.evaluate`."""
    return module.split(".")[1] if "." in module else ""


def upward(graph: Graph) -> Iterator[str]:
    """Yield each import that a floor must not have."""
    for module, others in graph.items():
        if not module.startswith("stages."):
            continue
        own = floor(module)
        for other in sorted(others):
            if not other.startswith("stages.") or floor(other) == own:
                continue
            if own in MAY_IMPORT and floor(other) not in MAY_IMPORT[own]:
                yield f"{module} imports {other}"
            if own in FAMILIES and floor(other) in FAMILIES:
                yield f"{module} imports another family, {other}"


def test_the_house_is_read(graph: Graph) -> None:
    assert {floor(module) for module in graph} >= MAY_IMPORT.keys() - TABLES
    assert FAMILIES & {floor(module) for module in graph}
    assert "stages.engine.run" in graph["stages.engine.launch"]  # inside a function
    assert "avdata.strict" in graph["stages.engine.checkpoint"]


def test_floors_import_nothing_above_them(graph: Graph) -> None:
    assert list(upward(graph)) == []


def test_the_data_half_knows_no_stage(graph: Graph) -> None:
    data_half = {module: others for module, others in graph.items() if module.startswith("avdata")}
    assert [
        f"{module} imports {other}"
        for module, others in data_half.items()
        for other in others
        if not other.startswith("avdata")
    ] == []


def test_no_circle() -> None:
    assert circles(import_graph(ROOT, "avdata", "stages", types=False)) == []


def test_what_would_be_found(tmp_path: Path) -> None:
    """A small house with one mistake of each kind."""
    files = {
        "avdata/__init__.py": "",
        "avdata/report.py": "import stages.engine.run\n",
        "stages/engine/__init__.py": "",
        "stages/engine/run.py": "def f():\n    from stages.engine import keeper\n",
        "stages/engine/keeper.py": "import stages.engine.run as run\n",
        "stages/engine/launch.py": "from stages.engine.settings import S\n",
        "stages/engine/settings.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from stages.engine.launch import Stage\n"
        "    from stages.judges.clip import Clip\n",
        "stages/judges/clip.py": "",
        "stages/nn/layers.py": "from stages.avstyle.model import G\n",
        "stages/avstyle/model.py": "import os\nfrom stages.sound2scene.icgan import unit_norm\n",
        "stages/sound2scene/icgan.py": "import stages.engine\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = import_graph(tmp_path, "avdata", "stages")
    running = import_graph(tmp_path, "avdata", "stages", types=False)
    assert circles(running) == [["stages.engine.keeper", "stages.engine.run"]]
    assert len(circles(found)) == 2
    assert list(upward(found)) == [
        "stages.avstyle.model imports another family, stages.sound2scene.icgan",
        "stages.engine.settings imports stages.judges.clip",
        "stages.nn.layers imports stages.avstyle.model",
    ]
    with pytest.raises(AssertionError, match=r"avdata\.report imports stages\.engine\.run"):
        test_the_data_half_knows_no_stage(found)
