"""The figures that systems share, by name; a family adds its own in its record.

recall      R@1, R@5, R@10: does the picture show the clip's class?
frechet     FID to the real frames of the same clips
inception   IS of the whole set, and over splits
diversity   how much pictures of one sound differ, beside how much real frames of a class do

Those of pictures that were made of a picture and a sound stand in `restyling.py`: correspondence,
scene_changes, clip_text, structure, follows, louder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from stages.evaluation import scores
from stages.evaluation.judged import Column, Figure, Judged
from stages.evaluation.restyling import RESTYLING
from stages.evaluation.system import System
from stages.family import Family
from stages.metrics.retrieval import chance

COLUMNS = (
    *(Column(f"R@{k}", f"R@{k} %", percent=True, digits=1) for k in (1, 5, 10)),
    Column("FID", "FID"),
    Column("IS", "IS"),
    Column("diversity", "diversity", digits=3),
    Column("AVC", "AVC", digits=3, table="restyled"),
    Column("AVC_lead", "AVC lead", digits=3, table="restyled"),
    Column("CLIP", "CLIP", digits=3, table="restyled"),
    Column("follows", "follows %", percent=True, digits=1, table="restyled"),
    Column("stays", "stays %", percent=True, digits=1, table="restyled"),
    Column("structure", "structure", digits=3, table="restyled"),
    Column("louder", "louder", table="restyled"),
    Column("preference", "preference", digits=3, table="restyled"),
)
"""In the order of the table; a column that no system has is left out."""


def recall(judged: Judged) -> dict[str, Any]:
    """Return R@k over all clips, and of each class."""
    given = (judged.similarity, judged.targets, judged.ks)
    whole = scores.recall(*given, judged.sampling)
    return {**whole, "by_class": scores.by_class(*given, judged.classes, judged.sampling)}


def frechet(judged: Judged) -> dict[str, Any]:
    """Return FID to the real frames of the same clips."""
    return {"FID": scores.frechet(judged.seen, judged.reference, judged.sampling)}


def inception(judged: Judged) -> dict[str, Any]:
    """Return IS of the whole set, and its mean and deviation over splits."""
    logits = judged.judges.inception.scores(judged.seen)
    return scores.inception(logits, judged.is_splits, judged.sampling)


def diversity(judged: Judged) -> dict[str, Any]:
    """Return how much pictures of one row differ by their noise alone."""
    others = [
        judged.system.samples(judged.studio, number).resized(judged.judged_px)
        for number in range(1, judged.varied)
    ]
    return scores.diversity([judged.samples, *others], judged.sampling)


FIGURES: dict[str, Figure] = {
    figure.__name__: figure for figure in (recall, frechet, inception, diversity)
} | RESTYLING


def measured(judged: Judged, own: dict[str, Figure]) -> dict[str, Any]:
    """Return all figures of a system; own: those of its family, by name."""
    known = FIGURES | own
    found: dict[str, Any] = {}
    for name in judged.system.figures:
        found |= known[name](judged)
    return found


def guessed(
    systems: Iterable[Mapping[str, Any]], ks: Iterable[int], n_classes: int
) -> dict[str, float]:
    """Return what guessing a class gives, of the figures that these systems have."""
    named = {name for own in systems for name in own} & {"follows", "stays"}
    return {f"R@{k}": chance(k, n_classes) for k in ks} | dict.fromkeys(
        sorted(named), chance(1, n_classes)
    )


def columns_of(names: Iterable[str], own: Iterable[Column]) -> list[Column]:
    """Return the columns of these names, the shared ones first; own: those of families."""
    wanted = set(names)
    known = {column.name: column for column in (*COLUMNS, *own)}
    return [column for name, column in known.items() if name in wanted]


def judge_warnings(real: Judged) -> list[str]:
    """Return what makes the figures doubtful: a judge who does not know real frames either."""
    top = scores.recall(real.similarity, real.targets, [1], real.sampling)["R@1"]
    guess = chance(1, len(real.classes))
    low = top["value"] if top["low"] is None else top["low"]
    if low > guess:
        return []
    return [
        f"R@k says little here: on real frames the judge is no better than chance (R@1 "
        f"{top['value']:.1%}, from {low:.1%} on; chance {guess:.1%}): "
        f"{real.judges.recall.description}"
    ]


def reported(systems: Mapping[System, Family | None], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what papers say of these systems, the columns of the table, and their other tables."""
    own = list({one.name: one for one in systems.values() if one is not None}.values())
    benchmarks = [one.benchmark for one in own if one.benchmark is not None]
    rows = {
        system.name: {k: v for table in benchmarks for k, v in table.row(system.name).items()}
        for system in systems
    }
    names = {*(c for row in figures.values() for c in row), *(c for r in rows.values() for c in r)}
    columns = columns_of(names, [column for one in own for column in one.columns])
    return {
        "columns": [asdict(column) for column in columns],
        "reported": rows,
        "benchmarks": [asdict(table) for table in benchmarks],
        "papers": [asdict(table) for one in own for table in one.papers],
    }
