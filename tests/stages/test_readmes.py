"""Every family and every product that others use has a README, whose files and programs exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from stages.families import FAMILIES

STAGES = Path(__file__).parents[2] / "stages"


@pytest.mark.parametrize(
    "name", [*FAMILIES, "localizer", "image_encoder", "stylegan2", "stylegan3", "text_image"]
)
def test_it_names_what_exists(name: str) -> None:
    folder = STAGES / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    for file in re.findall(r"`(\w+\.py)`", text):
        assert (folder / file).is_file() or (STAGES / file).is_file(), file
    programs = set(re.findall(r"-m (stages\.\w+)", text)) - {"stages.train_toy"}
    assert programs
    for program in programs:
        assert find_spec(program) is not None, program
