"""The tables of a grid of ablations, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.evaluation.grid import FULL, Grid
from stages.evaluation.tables import NONE, Table, in_column, plain, with_interval
from stages.metrics.bootstrap import bootstrap_mean


def mean_hit(clips: Sequence[Mapping[str, Any]], system: str) -> float:
    """Return R@1 of what `stages.evaluate` says of each clip."""
    return float(np.mean([clip[system]["R@1"] for clip in clips]))


def lead(
    full: Sequence[Sequence[Mapping[str, Any]]],
    row: Sequence[Sequence[Mapping[str, Any]]],
    system: str,
    seed: int,
) -> dict[str, float | None]:
    """Return by how much R@1 of `full` is above that of `row`, clip by clip, and its interval.

    full, row: of each seed and each clip, in the same order, what `stages.evaluate` says of it.
    The interval is over source videos, of the means of all seeds.
    """
    first = full[0]
    keys = [clip["key"] for clip in first]
    if any([clip["key"] for clip in clips] != keys for clips in (*full, *row)):
        raise ValueError("the cells were scored on different clips: there is nothing to compare")
    hits = [
        np.mean([[clip[system]["R@1"] for clip in clips] for clips in cells], axis=0)  # [N]
        for cells in (full, row)
    ]
    clusters = [clip["source"] for clip in first]
    return bootstrap_mean(hits[0] - hits[1], clusters=clusters, seed=seed).to_json()


def grid_table(grid: Grid, results: Mapping[str, Mapping[str, Any]], family: str) -> Table:
    """Return a row of ours and one of the paper's for each cell, by its name.

    results: of each row what `stages.evaluate` wrote, with R@1 of all seeds and the lead of `full`.
    """
    first = next(iter(results.values()))
    gap_names = ("magnitude", "alignment")
    columns = [c for c in first["columns"] if not grid.columns or c["name"] in grid.columns]
    with_gap = family in first["gap"]
    rows: list[tuple[str, ...]] = []
    for name, own in results.items():
        figures = own["systems"][grid.system]
        found = [in_column(figures.get(column["name"]), column) for column in columns]
        gaps = [with_interval(own["gap"][family][key]) for key in gap_names] if with_gap else []
        seeds = [100 * share for share in own["seeds"]["R@1"]]
        spread = f"{np.mean(seeds):.1f} ({min(seeds):.1f} to {max(seeds):.1f})"
        ahead = (
            with_interval(own["full_ahead"], percent=True, digits=1)
            if "full_ahead" in own
            else NONE
        )
        title = grid.rows[name].title
        rows.append((title, "ours", *found, *gaps, spread, ahead))
        reported = grid.paper.row(title)
        theirs = [plain(reported.get(c["name"]), grid.paper.digits) for c in columns]
        rows.append(("", "paper", *theirs, *(NONE for _ in gaps), NONE, NONE))
    judges, n_seeds = first["judges"], len(first["seeds"]["R@1"])
    over = f"R@1 over {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    return Table(
        grid.title,
        (
            f"ours, R@k: {judges['R@k']}; FID: {judges['FID']}; IS: {judges['IS']}",
            *([f"ours, AVC: {judges['AVC']}"] if judges["AVC"] else []),
            "ours: each row is this pipeline but for what it names; intervals over source videos",
            f"over seeds: mean, lowest and highest; {FULL} ahead: R@1 of the last row less that of "
            "this one, clip by clip and over all seeds",
            f"paper: {grid.paper.title}, {grid.paper.source}",
        ),
        (
            *("", "", *(column["heading"] for column in columns)),
            *([f"gap {gap_names[0]}", gap_names[1]] if with_gap else []),
            *(over, f"{FULL} ahead"),
        ),
        tuple(rows),
    )


def classes_table(grid: Grid, results: Mapping[int, Mapping[str, Any]]) -> Table:
    """Return R@5 of each class, by the number of classes trained on."""
    own = {count: found["systems"][grid.system] for count, found in results.items()}
    names = sorted({name for figures in own.values() for name in figures["by_class"]})

    def cell(figures: Mapping[str, Any]) -> str:
        return with_interval(figures.get("R@5"), percent=True, digits=1)

    rows = [
        (name, *(cell(figures["by_class"].get(name, {})) for figures in own.values()))
        for name in names
    ]
    rows.append(("all", *(cell(figures) for figures in own.values())))
    note = "R@5 in %, among as many candidates as classes; none where there are no more than five"
    header = ("", *(f"{count} classes" for count in own))
    return Table(grid.class_title, (note,), header, tuple(rows))
