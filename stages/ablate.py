"""Train and score the grid of the paper's ablations: python -m stages.ablate PIPELINE.yaml

    Table 2   loss, frame selection, seconds heard; each row differs from `full` in one thing
    Fig. 16   number of classes: R@5 of each class

Each cell is a run of its own under <output>/stages/ablate/NAME: `stages.train_sound2scene`, then
`stages.evaluate`, as their sections say but for what the cell changes; `full` changes nothing, and
is the pipeline's own training. Shards, image encoder and generator are those of the pipeline. With
several seeds, the tables show the pipeline's own, and R@1 over all of them. What is complete is not
trained again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avdata.config import Pipeline
from avdata.report.training import SECTION
from avdata.store import Store
from avdata.strict import setting
from stages.engine.errors import TrainingError
from stages.engine.launch import launch_work, stage_folder
from stages.evaluate import CLIPS
from stages.evaluation.ablations import classes_table, grid_table, lead, mean_hit
from stages.evaluation.page import chapter
from stages.evaluation.tables import markdown

NAME, TITLE = "ablate", "Ablations"
TRAINER, JUDGE = "train_sound2scene", "evaluate"
SHARED = ("features", f"{JUDGE}/features")  # caches, the same for all cells

Row = Literal["l2", "l_nce", "no_selection", "1_s", "5_s", "full"]
CHANGES: dict[str, dict[str, Any]] = {
    "l2": {"loss": "l2"},
    "l_nce": {"loss": "l_nce"},
    "no_selection": {"data.frames": "mid"},
    "1_s": {"duration_s": 1.0},
    "5_s": {"duration_s": 5.0},
    "full": {},
}
"""What each row of Table 2 changes in the trainer's section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Which cells are trained."""

    rows: tuple[Row, ...] = setting(
        ("l2", "l_nce", "1_s", "5_s", "full"),
        "Rows of Table 2; no_selection needs all_frames_shards.",
    )
    class_counts: tuple[int, ...] = setting((), "Numbers of classes of Fig. 16.")
    seeds: int = setting(
        1, "Trainings of each row of Table 2: with the pipeline's seed, and those that follow it."
    )
    all_frames_shards: str | None = setting(
        None, "Shards of the same clips packed with frames: all, to train no_selection on."
    )
    launcher: str = setting(
        "", "In place of `python` for training, as in `torchrun --nproc-per-node 8`."
    )

    def __post_init__(self) -> None:
        if not self.rows and not self.class_counts:
            raise ValueError("rows and class_counts are both empty: there is nothing to train")
        if "no_selection" in self.rows and self.all_frames_shards is None:
            raise ValueError(
                "no_selection takes the middle frame, which shards of picked frames do not hold: "
                "give all_frames_shards, packed with steps.shard.frames=all, or leave the row out"
            )
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
) -> dict[str, Any]:
    """Train and score all cells; return the results of each. Raises TrainingError if one fails."""
    results: dict[str, Any] = {}
    clips: dict[str, list[Any]] = {}  # of each row and seed, what is said of every clip
    for cell in cells(pipeline, settings):
        share_caches(stage_folder(pipeline, TRAINER).parent, cell.scored / "stages")
        train = [*shlex.split(settings.launcher or sys.executable), "-m", f"stages.{TRAINER}"]
        judge = [sys.executable, "-m", f"stages.{JUDGE}"]
        heard = {"audio_encoder": str(cell.trained / "stages" / TRAINER)}
        for command, name, output, own in (
            (train, TRAINER, cell.trained, cell.trainer),
            (judge, JUDGE, cell.scored, {**cell.judge, **heard}),
        ):
            changes = {"output": str(output), "seed": cell.seed}
            changes |= {f"stages.{name}.{k}": v for k, v in own.items()}
            ours = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
            words = [word for change in (*overrides, *ours) for word in ("--set", change)]
            _run([*command, path, *words], cell.name, shown=name == TRAINER)
        scored = cell.scored / "stages" / JUDGE
        results[cell.name] = json.loads((scored / "results.json").read_bytes())
        lines = (scored / CLIPS).read_text(encoding="utf-8").splitlines()
        clips.setdefault(cell.row, []).append([json.loads(line) for line in lines])
    for row in settings.rows:
        results[row]["seeds"] = {"R@1": [mean_hit(own) for own in clips[row]]}
        if row != "full" and "full" in clips:
            results[row]["full_ahead"] = lead(clips["full"], clips[row], pipeline.seed)
    return results


def share_caches(base: Path, own: Path) -> None:
    """Let a cell find the pipeline's cached features, which are named by what they depend on."""
    for name in SHARED:
        (base / name).mkdir(parents=True, exist_ok=True)
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        if not (own / name).exists():
            (own / name).symlink_to((base / name).resolve(), target_is_directory=True)


def _run(command: Sequence[str], cell: str, *, shown: bool) -> None:
    # Only the tables of the whole grid go to standard output.
    done = subprocess.run(command, stdout=sys.stderr if shown else subprocess.DEVNULL, check=False)
    if done.returncode:
        raise TrainingError(
            f"cell {cell} ended with {done.returncode}, its message stands above; once that is "
            f"mended the same command goes on from here: {shlex.join(command)}"
        )


def cells(pipeline: Pipeline, settings: Settings) -> list[Cell]:
    """Return the cells of the grid; shards and frozen parts are the pipeline's own."""
    shards = (pipeline.stages.get(TRAINER) or {}).get("train", {}).get("shards")
    shards = shards or str(pipeline.output)
    parts = {
        part: str(stage_folder(pipeline, stage))
        for part, stage in (("image_encoder", "train_image_encoder"), ("generator", "train_icgan"))
    }
    given = {name: pipeline.stages.get(name) or {} for name in (TRAINER, JUDGE)}
    eye = given[TRAINER].get("image_encoder") or parts["image_encoder"]
    trainer = {"train.shards": shards, "image_encoder": eye}
    judge = {
        "shards": given[JUDGE].get("shards") or shards,
        "systems": ["sound2scene"],
        "image_encoder": given[JUDGE].get("image_encoder") or eye,
        "generator": given[JUDGE].get("generator") or parts["generator"],
        "classes_file": given[TRAINER].get("data", {}).get("classes_file"),
    }
    folder = stage_folder(pipeline, NAME)
    made = []
    for row in settings.rows:
        own = trainer | CHANGES[row]
        if row == "no_selection":
            own["train.shards"] = settings.all_frames_shards
        for seed in range(pipeline.seed, pipeline.seed + settings.seeds):
            place = folder / (row if seed == pipeline.seed else f"{row}_seed_{seed}")
            if place.name == "full":
                made.append(Cell(row, row, seed, Path(pipeline.output), place, {}, judge))
            else:
                made.append(Cell(row, place.name, seed, place, place, own, judge))
    for count in settings.class_counts:
        own = trainer | {"data.max_classes": count}
        place = folder / f"{count}_classes"
        scored = judge | {"max_classes": count}
        made.append(Cell(place.name, place.name, pipeline.seed, place, place, own, scored))
    return made


def work(given: argparse.Namespace, pipeline: Pipeline, settings: Settings) -> str:
    """Train and score every cell, write the tables; return them."""
    results = ablate(given.pipeline, given.overrides, pipeline, settings)
    chapters = []
    intro = f"Cells of {pipeline.output}, each trained alike."
    if settings.rows:
        chapters.append(grid_table({row: results[row] for row in settings.rows}))
    if settings.class_counts:
        counted = {n: results[f"{n}_classes"] for n in settings.class_counts}
        chapters.append(classes_table(counted))
    text = markdown(TITLE, intro, chapters)
    store = Store(str(stage_folder(pipeline, NAME)))
    store.write_bytes("results.md", text.encode())
    store.write_bytes(SECTION, chapter(TITLE, intro, chapters).encode())
    store.write_bytes("results.json", json.dumps(results, indent=1).encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    launch_work(NAME, Settings, work, arguments)


if __name__ == "__main__":
    main()
