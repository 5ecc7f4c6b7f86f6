"""A stage that has nowhere to write says by which of its own keys it finds the shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avdata.errors import SettingsError
from stages import ablate, evaluate, train_localizer
from stages.engine.launch import read_settings


@pytest.mark.parametrize(
    ("name", "settings", "advice"),
    [
        ("train_localizer", train_localizer.Settings, "stages.train_localizer.train.shards=s3://b"),
        ("evaluate", evaluate.Settings, "stages.evaluate.shards=s3://b"),
        ("ablate", ablate.Settings, "work on a local copy of the run"),
    ],
)
def test_the_advice_for_a_remote_output_can_be_followed(
    tmp_path: Path, name: str, settings: Any, advice: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("output: s3://bucket/run\n")
    with pytest.raises(SettingsError, match="stages write to a local folder") as error:
        read_settings(str(path), [], name, settings)
    assert advice in str(error.value)
    if "=s3" in advice:  # as it stands, it is taken
        override = str(error.value).partition("--set stages.")[2]
        read_settings(str(path), [f"output={tmp_path}", f"stages.{override}"], name, settings)
