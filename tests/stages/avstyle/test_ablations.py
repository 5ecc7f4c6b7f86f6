"""AVStyle's grid of ablations: what each cell changes, and one trained by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from avdata.audio.spec import AVC
from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.strict import build
from stages.ablate import Settings, cells, chosen
from stages.avstyle.ablations import GRID
from stages.avstyle.settings import Settings as Trainer
from stages.engine.checkpoint import ModelCard, save_weights
from stages.nn.avc import AvcNetwork
from tests.stages.evaluation_run import make_shards, pipeline_file
from tests.stages.programs import python

TRAINER: dict[str, Any] = {
    "train": {"steps": 2, "batch_size": 2, "device": "cpu", "workers": 0},
    "held_out": None,
    "resolution_px": 16,
    "frames_per_clip": 1,
    "width": 4,
    "blocks": 5,
    "discriminator_width": 4,
    "discriminator_layers": 1,
    "sound_dim": 8,
    "arch": "tiny",
    "sound_width": 4,
    "patches": 4,
}


def grid(folder: Path, **settings: Any) -> dict[str, Any]:
    path = pipeline_file(folder / "run", {"train_avstyle": TRAINER})
    pipeline, own = load_pipeline(path), build(Settings, settings, "here")
    return {cell.name: cell for cell in cells(pipeline, own, *chosen(pipeline, own))}


def test_a_cell_changes_one_thing_and_trains_both_networks(tmp_path: Path) -> None:
    files = {"selavi": "/selavi.pt", "wav2clip": "/wav2clip.pt"}
    made = grid(tmp_path, rows=list(GRID.rows), files=files)
    run = tmp_path / "run"
    changes = {
        name: {k: v for k, v in cell.trainer.items() if k != "train.shards"}
        for name, cell in made.items()
    }
    assert changes == {
        "class_prediction": {"condition": "classes"},
        "keyword": {"condition": "keyword"},
        "cycle": {"consistency": "cycle"},
        "late_fusion": {"fusion": "late"},
        "no_identity": {"identity_weight": 0.0, "consistency_weight": 1.0},
        "selavi": {"init_from": "/selavi.pt"},
        "wav2clip": {"init_from": "/wav2clip.pt"},
        "film": {"enters": "film"},
        "mismatched": {"mismatched": True},
        "film_mismatched": {"enters": "film", "mismatched": True},
        "full": {},
    }
    for name, cell in made.items():
        own = run if name == "full" else run / "stages" / "ablate_avstyle" / name
        trained = str(own / "stages" / "train_avstyle")
        assert cell.judge["parts"] == {"style_generator": trained, "sound_encoder": trained}
        flat = {k: v for k, v in cell.trainer.items() if "." not in k}
        build(Trainer, TRAINER | flat, "here")  # they are settings that the trainer has


def test_rows_that_need_a_file_say_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"selavi needs a file for init_from .*files\.selavi="):
        grid(tmp_path, rows=["selavi"])


def test_rows_are_those_of_the_papers_tables() -> None:
    ours = {"film", "mismatched", "film_mismatched"}
    for name, row in GRID.rows.items():
        reported = set() if name in ours else {"AVC", "FID", "CLIP"}
        assert GRID.paper.row(row.title).keys() == reported
    assert GRID.paper.row("Wav2CLIP")["AVC"] == 0.831
    assert GRID.paper.row("no identity loss")["FID"] == 41.019


@pytest.mark.slow
def test_a_cell_is_trained_and_scored(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_shards(run)
    own = {"rows": ["late_fusion"]}
    stages = {"train_avstyle": TRAINER, "ablate": own}
    network = {"width": 4, "dim": 8, "image_px": 32}
    card = ModelCard(name="avc", settings=network, audio=AVC)
    save_weights(tmp_path / "avc.safetensors", AvcNetwork(**network).state_dict(), card.metadata())
    judge = {"avc": str(tmp_path / "avc.safetensors")}
    path = pipeline_file(run, stages, judged_px=32, study_clips=0, restyling=judge)
    done = python(["-m", "stages.ablate", str(path)], HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    results = json.loads((run / "stages/ablate_avstyle/results.json").read_text())
    trained = run / "stages/ablate_avstyle/late_fusion/stages/train_avstyle"
    for part in ("style_generator", "sound_encoder"):
        file = results["late_fusion"]["models"]["avstyle"][part]["file"]
        assert file.startswith(str(trained))
    assert "fusion: late" in (trained / "settings.yaml").read_text()
    assert "| late fusion | ours |" in done.stdout
    lines = done.stdout.splitlines()
    (theirs,) = (line for line in lines if "54.025" in line)
    assert theirs.startswith("|  | paper | – | 54.025 | 0.811 | 0.230 | – |")
    figure = results["late_fusion"]["systems"]["avstyle"]["AVC"]["value"]
    assert f" {figure:.3f} (" in lines[lines.index(theirs) - 1]
    assert "ours, AVC: not OpenL3" in done.stdout
    assert "diversity" not in done.stdout
