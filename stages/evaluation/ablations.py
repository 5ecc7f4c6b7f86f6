"""The tables of a grid of ablations, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.evaluation.cells import NONE, Table, in_column, number, plain, with_interval
from stages.evaluation.grid import FULL, Grid
from stages.evaluation.sound_tables import SOUND_COLUMNS, sound_tables
from stages.metrics.bootstrap import bootstrap_mean

Lines = Sequence[Mapping[str, Any]]  # what `stages.evaluate` says of each clip


def compared(grid: Grid, row: Sequence[Lines], full: Sequence[Lines] | None, seed: int) -> Any:
    """Return {"seeds": {figure: its mean of each seed}, "full_ahead": {figure: its interval}}.

    row, full: of each seed. Figures that no clip has, as where nobody could judge, are left out.
    """
    known = [name for name in grid.compared if any(name in c[grid.system] for c in row[0])]
    found: dict[str, Any] = {
        "seeds": {name: [mean_of(own, grid.system, name) for own in row] for name in known}
    }
    if full is not None:
        found["full_ahead"] = {name: lead(full, row, grid.system, name, seed) for name in known}
    return found


def mean_of(clips: Lines, system: str, name: str) -> float:
    """Return the mean of a figure over the clips that have it."""
    return float(np.mean([own[name] for clip in clips if name in (own := clip[system])]))


def lead(
    full: Sequence[Lines], row: Sequence[Lines], system: str, name: str, seed: int
) -> dict[str, float | None]:
    """Return by how much a figure of `full` is above that of `row`, clip by clip; its interval.

    full, row: of each seed and each clip, in the same order. Clips that lack the figure in one of
    them do not count. The interval is over source videos, of the means of all seeds.
    """
    first = full[0]
    keys = [clip["key"] for clip in first]
    if any([clip["key"] for clip in clips] != keys for clips in (*full, *row)):
        raise ValueError("the cells were scored on different clips: there is nothing to compare")
    values = [
        np.mean([[clip[system].get(name, np.nan) for clip in clips] for clips in cells], axis=0)
        for cells in (full, row)
    ]  # [N] each, NaN for a clip that lacks it once
    differences = values[0] - values[1]
    there = np.isfinite(differences)
    clusters = np.array([clip["source"] for clip in first])[there]
    return bootstrap_mean(differences[there], clusters=clusters, seed=seed).to_json()


def grid_table(grid: Grid, results: Mapping[str, Mapping[str, Any]], family: str) -> Table:
    """Return a row of ours and one of the paper's for each cell, by its name.

    results: of each row what `stages.evaluate` wrote, and what `compared` says of it.
    """
    first = next(iter(results.values()))
    gap_names = ("magnitude", "alignment")
    written = {column["name"]: column for column in first["columns"]}
    columns = [c for c in first["columns"] if not grid.columns or c["name"] in grid.columns]
    over = [written[name] for name in first["seeds"]]
    with_gap = family in first["gap"]
    rows: list[tuple[str, ...]] = []
    for name, own in results.items():
        figures = own["systems"][grid.system]
        found = [in_column(figures.get(column["name"]), column) for column in columns]
        gaps = [with_interval(own["gap"][family][key]) for key in gap_names] if with_gap else []
        last = [cell for column in over for cell in _over_seeds(own, column)]
        title = grid.rows[name].title
        rows.append((title, "ours", *found, *gaps, *last))
        reported = grid.paper.row(title)
        theirs = [plain(reported.get(c["name"]), grid.paper.digits) for c in columns]
        rows.append(("", "paper", *theirs, *(NONE for _ in (*gaps, *last))))
    judges = first["judges"]
    return Table(
        grid.title,
        (
            f"ours, R@k: {judges['R@k']}; FID: {judges['FID']}; IS: {judges['IS']}",
            *([f"ours, AVC: {judges['AVC']}"] if judges["AVC"] else []),
            *_grid_notes(grid, "source videos"),
        ),
        (
            *("", "", *(column["heading"] for column in columns)),
            *([f"gap {gap_names[0]}", gap_names[1]] if with_gap else []),
            *_over_headings(first, over),
        ),
        tuple(rows),
    )


def heard_table(grid: Grid, results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the same of a grid whose cells name sounds; the paper's are all zero-shot."""
    first = next(iter(results.values()))
    own_first = first["sounds"]["listeners"][grid.system]
    columns = [column for column in SOUND_COLUMNS if column["name"] in own_first["figures"]]
    over = [column for column in columns if column["name"] in first["seeds"]]
    rows: list[tuple[str, ...]] = []
    for name, own in results.items():
        figures = own["sounds"]["listeners"][grid.system]["figures"]
        found = [in_column(figures.get(column["name"]), column) for column in columns]
        last = [cell for column in over for cell in _over_seeds(own, column)]
        title = grid.rows[name].title
        rows.append((title, "ours", *found, *last))
        if theirs := grid.paper.row(title):
            cell = ", ".join(f"{key} {plain(v, grid.paper.digits)}" for key, v in theirs.items())
            rows.append(("", "paper", cell, *[NONE] * (len(columns) - 1 + len(last))))
    guess = [number(100 * first["sounds"]["chance"], 1) for _ in columns]
    rows.append(("Chance", "ours", *guess, *(NONE for _ in range(2 * len(over)))))
    words, probe, *_ = sound_tables(first)[0].notes
    return Table(
        grid.title,
        (f"ours, {words}", f"ours, {probe}", *_grid_notes(grid, "source recordings")),
        ("", "", *(column["heading"] for column in columns), *_over_headings(first, over)),
        tuple(rows),
    )


def _grid_notes(grid: Grid, drawn: str) -> tuple[str, ...]:
    return (
        f"ours: each row is this pipeline but for what it names; intervals over {drawn}",
        f"over seeds: mean, lowest and highest; {FULL} ahead: the figure of the last row less that "
        "of this one, clip by clip and over all seeds",
        f"paper: {grid.paper.title}, {grid.paper.source}",
    )


def _over_headings(first: Mapping[str, Any], over: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    n = max((len(values) for values in first["seeds"].values()), default=1)
    names = [column["heading"].removesuffix(" %") for column in over]
    return tuple(
        title
        for name in names
        for title in (
            f"{name} over {n} seed{'s' if n > 1 else ''}",
            f"{FULL} ahead" if len(names) == 1 else f"{FULL} ahead: {name}",
        )
    )


def _over_seeds(own: Mapping[str, Any], column: Mapping[str, Any]) -> tuple[str, str]:
    """Return a figure's mean and range over seeds, and by how much `full` is ahead of it."""
    name, scale = column["name"], 100 if column["percent"] else 1
    if name not in own["seeds"]:
        return NONE, NONE
    values = scale * np.array(own["seeds"][name])
    mean, low, high = (
        number(float(x), column["digits"]) for x in (values.mean(), values.min(), values.max())
    )
    ahead = own.get("full_ahead", {}).get(name)
    return f"{mean} ({low} to {high})", in_column(ahead, column)


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
