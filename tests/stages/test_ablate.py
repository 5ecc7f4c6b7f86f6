"""The grid: what each cell changes, and some trained and scored by the real command."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from avdata.config import load_pipeline
from avdata.errors import SettingsError
from avdata.strict import build
from stages.ablate import Settings, cells, chosen, share_caches
from stages.engine.checkpoint import load_weights
from stages.evaluation.ablations import classes_table, compared, grid_table, lead
from stages.evaluation.figures import COLUMNS
from stages.sound2scene.ablations import GRID
from tests.stages.evaluation_run import make_products, make_shards, pipeline_file
from tests.stages.programs import python

TRAINER = {
    "arch": "tiny",
    "width": 4,
    "duration_s": 0.5,
    "data": {"held_out_share": 0.5, "val_batch_size": 2, "image_size_px": 40, "input_px": None},
    "train": {"steps": 2, "batch_size": 2, "device": "cpu", "workers": 0},
}


def grid(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    path = pipeline_file(tmp_path / "run", {"train_sound2scene": TRAINER})
    pipeline, own = load_pipeline(path), build(Settings, settings, "here")
    made = cells(pipeline, own, *chosen(pipeline, own))
    return {cell.name: cell for cell in made}


def test_a_cell_changes_one_thing(tmp_path: Path) -> None:
    rows = ["l2", "l_nce", "no_selection", "1_s", "5_s", "full"]
    made = grid(tmp_path, rows=rows, all_frames_shards="/all", class_counts=[10])
    own = tmp_path / "run"
    base = {
        "train.shards": str(own),
        "image_encoder": str(own / "stages" / "train_image_encoder"),
    }
    changes = {
        name: {k: v for k, v in cell.trainer.items() if base.get(k) != v}
        for name, cell in made.items()
    }
    assert changes == {
        "l2": {"loss": "l2"},
        "l_nce": {"loss": "l_nce"},
        "no_selection": {"data.frames": "mid", "train.shards": "/all"},
        "1_s": {"duration_s": 1.0},
        "5_s": {"duration_s": 5.0},
        "full": {},
        "10_classes": {"data.max_classes": 10},
    }
    assert made["full"].trained == own  # it is the pipeline's own training
    assert made["l2"].trained == made["l2"].scored == own / "stages" / "ablate_sound2scene" / "l2"
    assert made["full"].scored == own / "stages" / "ablate_sound2scene" / "full"
    assert made["10_classes"].judge["max_classes"] == 10
    seeds = {name: cell.seed for name, cell in grid(tmp_path, rows=["l2", "full"], seeds=2).items()}
    assert seeds == {"l2": 3, "l2_seed_4": 4, "full": 3, "full_seed_4": 4}
    assert made["no_selection"].judge["shards"] == base["train.shards"] == str(tmp_path / "run")


def test_the_evaluation_keeps_its_own_candidates(tmp_path: Path) -> None:
    """classes_file of the evaluation counts; without one, what was trained on."""
    trainer = {**TRAINER, "data": {**TRAINER["data"], "classes_file": "trained.txt"}}
    for own, expected in (({}, "trained.txt"), ({"classes_file": "scored.txt"}, "scored.txt")):
        path = pipeline_file(tmp_path / "run", {"train_sound2scene": trainer}, **own)
        pipeline, settings = load_pipeline(path), build(Settings, {"rows": ["l2"]}, "here")
        (cell,) = cells(pipeline, settings, *chosen(pipeline, settings))
        assert cell.judge["classes_file"] == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": ["no_selection"]}, "packed with steps.shard.frames=all"),
        ({"rows": []}, "nothing to train"),
        ({"class_counts": [1]}, "2 or more"),
        ({"seeds": 0}, "at least 1"),
        ({"rows": ["l_nec"]}, "no 'l_nec'; did you mean l_nce"),
        ({"family": "sound2sea"}, "did you mean sound2scene"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        grid(tmp_path, **settings)


def test_cells_are_trained_and_scored(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_shards(folder)
    make_products(folder)
    own = {"rows": ["l2", "full"], "class_counts": [2]}
    path = pipeline_file(folder, {"train_sound2scene": TRAINER, "ablate": own})
    done = python(["-m", "stages.ablate", str(path)])
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "stages/ablate_sound2scene/results.json").read_text())
    assert [len(results[name]["classes"]) for name in ("l2", "2_classes", "full")] == [3, 2, 3]
    cells_in = {
        name: folder / "stages" / "ablate_sound2scene" / name for name in ("l2", "2_classes")
    }
    for name, run, loss in (
        ("l2", cells_in["l2"], "loss: l2\n"),
        ("2_classes", cells_in["2_classes"], "loss: l_total\n"),
        ("full", folder, "loss: l_total\n"),
    ):
        trained = run / "stages" / "train_sound2scene"
        assert loss in (trained / "settings.yaml").read_text()
        assert load_weights(trained)[0]["model"] == "audio_encoder"
        sources = results[name]["models"]["sound2scene"]
        assert sources["audio_encoder"]["file"].startswith(str(trained))
        assert sources["generator"]["file"].startswith(str(folder / "stages" / "train_icgan"))
    assert results["l2"]["full_ahead"]["R@1"].keys() >= {"value", "low", "high"}
    chapter = (folder / "stages/ablate_sound2scene/section.html").read_text()
    assert chapter.startswith("<h2>Ablations: Sound2Scene</h2>")
    assert "Table 2" in chapter
    figure = results["l2"]["systems"]["sound2scene"]["R@1"]["value"]
    assert f"| L2 | ours | {100 * figure:.1f} (" in done.stdout
    assert "|  | paper | 18.21 | 46.69 | 24.05 | 9.97 |" in done.stdout
    assert len(list((folder / "stages/features").glob("*.npy"))) == 1  # shared by both


def lines(values: list[float | None], name: str = "R@1") -> list[dict[str, Any]]:
    """Return what is said of clips, two of each video; None: nothing."""
    return [
        {
            "key": str(n),
            "source": str(n // 2),
            "sound2scene": {} if value is None else {name: value},
        }
        for n, value in enumerate(values)
    ]


def test_the_lead_of_full_is_paired_and_over_videos() -> None:
    def ahead(full: list[Any], row: list[Any]) -> dict[str, float | None]:
        return lead(full, row, "sound2scene", "R@1", seed=0)

    one = ahead([lines([1, 1, 1, 0])], [lines([0, 0, 1, 0])])
    # Video 0 gains 1, video 1 nothing: a resample of the two gives 0, 0.5 or 1.
    assert (one["value"], one["low"], one["high"]) == (0.5, 0.0, 1.0)
    two_seeds = ahead([lines([1, 1]), lines([0, 0])], [lines([0, 0]), lines([0, 0])])
    assert two_seeds["value"] == 0.5
    same = ahead([lines([1, 1, 0, 0])], [lines([1, 1, 0, 0])])
    assert (same["low"], same["high"]) == (0.0, 0.0)  # unpaired it would be -1 to 1
    # A clip that one of them lacks does not count: 1 and 0 are left of 1, 0, 1.
    some = ahead([lines([1, None, 1, 1])], [lines([0, 1, 1, None])])
    assert some["value"] == 0.5
    others = [{**clip, "key": "x"} for clip in lines([1, 0])]
    with pytest.raises(ValueError, match="different clips"):
        ahead([lines([1, 0])], [others])


def test_a_grid_compares_what_it_names() -> None:
    """Of two seeds, by hand; what nobody could judge has no column."""
    grid = replace(GRID, compared=("AVC", "R@1"))
    row = [lines([0.5, None, 0.25], "AVC"), lines([0.25, 0.5, None], "AVC")]
    found = compared(grid, row, None, seed=0)
    assert found == {"seeds": {"AVC": [0.375, 0.375]}}

    full = [lines([1, 0.5], "AVC"), lines([0.5, 1], "AVC")]
    other = [lines([0.5, 0.5], "AVC"), lines([0.25, 0.25], "AVC")]
    stage: dict[str, Any] = {
        "columns": [asdict(c) for c in COLUMNS if c.name in ("R@1", "AVC")],
        "judges": {"R@k": "a", "FID": "b", "IS": "c", "AVC": "d"},
        "gap": {},
        "systems": {"sound2scene": {}},
    }
    results = {
        "l2": stage | compared(grid, other, full, seed=0),
        "full": stage | compared(grid, full, None, seed=0),
    }
    table = grid_table(grid, results, "sound2scene")
    assert table.header == ("", "", "R@1 %", "AVC", "AVC over 2 seeds", "full ahead")
    cells = {row[0]: row[-2:] for row in table.rows if row[1] == "ours"}
    assert cells["L2"][0] == "0.375 (0.250 to 0.500)"  # means .5 and .25
    assert cells["L2"][1].startswith("0.375")  # 1 − .5, .5 − .5, .5 − .25, 1 − .25: their mean
    assert cells[GRID.rows["full"].title] == ("0.750 (0.750 to 0.750)", "–")


def test_classes_stand_beside_their_numbers() -> None:
    def found(value: float) -> dict[str, Any]:
        figure = {"R@5": {"value": value, "low": value, "high": value}}
        return {"systems": {"sound2scene": {**figure, "by_class": {"sea": figure}}}}

    table = classes_table(GRID, {10: found(0.75), 50: found(0.5)})
    assert table.header == ("", "10 classes", "50 classes")
    assert table.rows[0] == ("sea", "75.0 (75.0 to 75.0)", "50.0 (50.0 to 50.0)")


def test_cells_of_a_run_that_has_moved_find_its_caches(tmp_path: Path) -> None:
    base, own = tmp_path / "run" / "stages", tmp_path / "run" / "stages" / "cell" / "stages"
    share_caches(base, own)
    (base / "features" / "x").write_text("kept")
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere") / "stages"
    share_caches(moved, moved / "cell" / "stages")
    assert (moved / "cell" / "stages" / "features" / "x").read_text() == "kept"
    assert not base.exists()
