"""Train and score the grid of a paper's ablations: python -m stages.ablate PIPELINE.yaml

Each row differs from `full` in one thing; some families also go by the number of classes. Which
rows there are stands in each family's `ablations.py`.

Each cell is a run of its own under <output>/stages/ablate_FAMILY/ROW: the family's trainer, then
`stages.evaluate`, as their sections say but for what the cell changes; `full` changes nothing, and
is the pipeline's own training. Shards and the other parts are those of the pipeline. With several
seeds, the tables show the pipeline's own, and what the grid compares over all of them. What is
complete is not trained again.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from avdata.config import Pipeline
from avdata.errors import SettingsError, nearest
from avdata.report.training import SECTION
from avdata.store import Store
from avdata.strict import setting
from stages import evaluate
from stages.engine.errors import TrainingError
from stages.engine.launch import launch_work, stage_folder
from stages.evaluation.ablations import classes_table, compared, grid_table, heard_table
from stages.evaluation.cells import markdown
from stages.evaluation.grid import FULL, Grid
from stages.evaluation.page import chapter
from stages.families import families, family
from stages.family import Family

NAME, TITLE = "ablate", "Ablations"
JUDGE = "evaluate"
STOPPED = (130, 143)  # from the keyboard, or by SIGTERM
SHARED = ("features", f"{JUDGE}/features")  # caches, the same for all cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which cells are trained."""

    family: str | None = setting(
        None, "Whose ablations; null: of the family whose trainer has a section in this file."
    )
    rows: tuple[str, ...] | None = setting(
        None, "Rows of the family's table; null: all that need no other shards."
    )
    class_counts: tuple[int, ...] = setting(
        (), "Numbers of classes to train on, for the family's table by classes."
    )
    seeds: int = setting(
        1, "Trainings of each row: with the pipeline's seed, and those that follow it."
    )
    all_frames_shards: str | None = setting(
        None,
        "Shards of the same clips packed with frames: all, for the rows that need them.",
        path="optional",
    )
    files: dict[str, str] = setting(
        {}, "Row: the file that it needs, as a published checkpoint to start from.", path=True
    )
    launcher: str = setting(
        "", "In place of `python` for training, as in `torchrun --nproc-per-node 8`."
    )

    def __post_init__(self) -> None:
        if self.rows == () and not self.class_counts:
            raise ValueError("rows and class_counts are both empty: there is nothing to train")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")
        if any(count < 2 for count in self.class_counts):
            raise ValueError(f"class_counts must be 2 or more, got {list(self.class_counts)}")


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: its row, where it is trained and scored, what it changes in both sections."""

    row: str
    name: str
    seed: int
    trained: Path
    scored: Path
    trainer: Mapping[str, Any]
    judge: Mapping[str, Any]


def ablate(
    path: str, overrides: Sequence[str], pipeline: Pipeline, settings: Settings
) -> tuple[Family, dict[str, Any]]:
    """Train and score all cells; return the results of each. Raises TrainingError if one fails."""
    one, grid, rows = chosen(pipeline, settings)
    results: dict[str, Any] = {}
    clips: dict[str, list[Any]] = {}  # of each row and seed, what is said of every clip
    for cell in cells(pipeline, settings, one, grid, rows):
        share_caches(stage_folder(pipeline, grid.trainer).parent, cell.scored / "stages")
        train = [*shlex.split(settings.launcher or sys.executable), "-m", f"stages.{grid.trainer}"]
        words = _words(overrides, cell.seed, cell.trained, grid.trainer, cell.trainer)
        _train([*train, path, *words], cell.name)
        _score([path, *_words(overrides, cell.seed, cell.scored, JUDGE, cell.judge)], cell.name)
        scored = cell.scored / "stages" / JUDGE
        results[cell.name] = json.loads((scored / "results.json").read_bytes())
        told = evaluate.CLIPS if grid.of == "pictures" else evaluate.SOUNDS
        lines = (scored / told).read_text(encoding="utf-8").splitlines()
        clips.setdefault(cell.row, []).append([json.loads(line) for line in lines])
    for row in rows:
        full = clips.get(FULL) if row != FULL else None
        results[row] |= compared(grid, clips[row], full, pipeline.seed)
    return one, results


def chosen(pipeline: Pipeline, settings: Settings) -> tuple[Family, Grid, tuple[str, ...]]:
    """Return family, grid and rows; raises SettingsError for what there is not."""
    able = [one for one in families() if one.ablations is not None]
    if settings.family is not None:
        found = [family(settings.family)]
    else:
        found = [f for f in able if f.ablations and f.ablations.trainer in pipeline.stages]
    having = ", ".join(one.name for one in able)
    if len(found) != 1 or found[0].ablations is None:
        raise SettingsError(
            f"stages.{NAME}.family: name one family whose ablations are to be trained; these have "
            f"some: {having}"
        )
    one, grid = found[0], found[0].ablations
    rows = grid.by_default if settings.rows is None else settings.rows
    for row in rows:
        if row not in grid.rows:
            raise SettingsError(f"stages.{NAME}.rows: no {row!r}; {nearest(row, grid.rows)}")
        if grid.rows[row].all_frames and settings.all_frames_shards is None:
            raise SettingsError(
                f"{row} needs every frame, which shards of picked frames do not hold: give "
                "all_frames_shards, packed with steps.shard.frames=all, or leave the row out"
            )
        if grid.rows[row].file and row not in settings.files:
            raise SettingsError(
                f"{row} needs a file for {grid.rows[row].file} of {grid.trainer}: give it by --set "
                f"stages.{NAME}.files.{row}=FILE, or leave the row out"
            )
    if settings.class_counts and grid.class_setting is None:
        raise SettingsError(f"stages.{NAME}.class_counts: {one.name} has no table by classes")
    return one, grid, rows


def share_caches(base: Path, own: Path) -> None:
    """Let a cell find the pipeline's cached features, which are named by what they depend on."""
    for name in SHARED:
        (base / name).mkdir(parents=True, exist_ok=True)
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        link = own / name
        if link.is_symlink() and not link.exists():
            link.unlink()  # the run has moved
        if not link.exists():
            link.symlink_to((base / name).resolve(), target_is_directory=True)


def _words(
    overrides: Sequence[str], seed: int, output: Path, name: str, own: Mapping[str, Any]
) -> list[str]:
    """Return a cell's options for the program `name`, in which it changes `own`."""
    changes = {"output": str(output), "seed": seed}
    changes |= {f"stages.{name}.{key}": value for key, value in own.items()}
    ours = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return [word for change in (*overrides, *ours) for word in ("--set", change)]


def _train(command: Sequence[str], cell: str) -> None:
    # Only the tables of the whole grid go to standard output.
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        _end(cell, done.returncode, command)


def _score(words: Sequence[str], cell: str) -> None:
    # In this process: to start another takes as long as scoring a cell.
    try:
        with redirect_stdout(io.StringIO()):
            evaluate.main(words)
    except SystemExit as ending:
        if ending.code in STOPPED:
            raise
        _end(cell, ending.code, [sys.executable, "-m", f"stages.{JUDGE}", *words])


def _end(cell: str, code: object, command: Sequence[str]) -> NoReturn:
    raise TrainingError(
        f"cell {cell} ended with {code}, its message stands above; once that is mended the same "
        f"command goes on from here: {shlex.join(command)}"
    )


def folder_of(pipeline: Pipeline, one: Family) -> Path:
    """Return where a family's cells and tables lie: those of several families share a run."""
    return stage_folder(pipeline, f"{NAME}_{one.name}")


def cells(
    pipeline: Pipeline, settings: Settings, one: Family, grid: Grid, rows: Sequence[str]
) -> list[Cell]:
    """Return the cells of the grid; shards and all other parts are the pipeline's own."""
    given = {name: pipeline.stages.get(name) or {} for name in (grid.trainer, JUDGE)}
    shards = given[grid.trainer].get("train", {}).get("shards") or str(pipeline.output)
    parts = {
        part: str(stage_folder(pipeline, stage))
        for part, stage in one.parts.items()
        if stage != grid.trainer
    } | (given[JUDGE].get("parts") or {})
    trainer = {"train.shards": shards}
    for name, part in grid.inherited.items():
        own = given[grid.trainer].get(name) or (given[JUDGE].get("parts") or {}).get(part)
        if name in grid.published and own is None and not Path(parts[part]).is_dir():
            del parts[part]  # the trainer knows what stands in its place
            continue
        trainer[name] = given[grid.trainer].get(name) or parts[part]
        parts[part] = (given[JUDGE].get("parts") or {}).get(part) or trainer[name]
    judge: dict[str, Any] = {
        "shards": given[JUDGE].get("shards") or shards,
        "chapter": "",  # each cell has a folder of its own
        "sounds.others": {},
    }
    if grid.of == "pictures":
        judge |= {"systems": [grid.system], "sounds.listeners": []}
    else:
        judge |= {"pictures": False, "systems": [], "sounds.listeners": [grid.system]}
    # The candidates are what was trained on, unless the evaluation names others.
    trained_on = (given[grid.trainer].get("data") or {}).get("classes_file")
    judge["classes_file"] = given[JUDGE].get("classes_file") or trained_on
    folder = folder_of(pipeline, one)

    def cell(row: str, name: str, seed: int, own: Mapping[str, Any], **scored: Any) -> Cell:
        place = folder / name
        trained, changes = (Path(pipeline.output), {}) if name == FULL else (place, own)
        made_here = {
            part: str(trained / "stages" / grid.trainer)
            for part, stage in one.parts.items()
            if stage == grid.trainer
        }
        heard = {"parts": {**parts, **made_here}}
        return Cell(row, name, seed, trained, place, changes, {**judge, **heard, **scored})

    made = []
    for row in rows:
        own = trainer | dict(grid.rows[row].changes)
        if grid.rows[row].all_frames:
            own["train.shards"] = settings.all_frames_shards
        if file := grid.rows[row].file:
            own[file] = settings.files[row]
        for seed in range(pipeline.seed, pipeline.seed + settings.seeds):
            name = row if seed == pipeline.seed else f"{row}_seed_{seed}"
            made.append(cell(row, name, seed, own))
    for count in settings.class_counts:
        name, own = f"{count}_classes", trainer | {str(grid.class_setting): count}
        made.append(cell(name, name, pipeline.seed, own, max_classes=count))
    return made


def work(given: argparse.Namespace, pipeline: Pipeline, settings: Settings) -> str:
    """Train and score every cell, write the tables; return them."""
    one, results = ablate(given.pipeline, given.overrides, pipeline, settings)
    grid, chapters = one.ablations, []
    assert grid is not None
    intro = f"Cells of {pipeline.output}, each trained alike."
    if rows := {name: found for name, found in results.items() if "seeds" in found}:
        table = (
            grid_table(grid, rows, one.name) if grid.of == "pictures" else heard_table(grid, rows)
        )
        chapters.append(table)
    if settings.class_counts:
        counted = {n: results[f"{n}_classes"] for n in settings.class_counts}
        chapters.append(classes_table(grid, counted))
    title = f"{TITLE}: {one.title}"
    text = markdown(title, intro, chapters)
    store = Store(str(folder_of(pipeline, one)))
    store.write_bytes("results.md", text.encode())
    store.write_bytes(SECTION, chapter(title, intro, chapters).encode())
    store.write_bytes("results.json", json.dumps(results, indent=1).encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    launch_work(NAME, Settings, work, arguments)


if __name__ == "__main__":
    main()
