"""The layouts of the paper's ablations: Table 2, and Fig. 16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.evaluation.tables import NONE, Table, plain, with_interval
from stages.metrics.bootstrap import bootstrap_mean
from stages.sound2scene.paper import ABLATIONS, FULL

SYSTEM = "sound2scene"
PAPER_ROWS = {
    "l2": "L2",
    "l_nce": "L_nce",
    "no_selection": "without frame selection",
    "1_s": "1 s of sound",
    "5_s": "5 s of sound",
    "full": "L_total, selection, 10 s",
}
"""What the paper's table calls each of our cells."""


def mean_hit(clips: Sequence[Mapping[str, Any]]) -> float:
    """Return R@1 of what `stages.evaluate` says of each clip."""
    return float(np.mean([clip[SYSTEM]["R@1"] for clip in clips]))


def lead(
    full: Sequence[Sequence[Mapping[str, Any]]],
    row: Sequence[Sequence[Mapping[str, Any]]],
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
        np.mean([[clip[SYSTEM]["R@1"] for clip in clips] for clips in cells], axis=0)  # [N]
        for cells in (full, row)
    ]
    clusters = [clip["source"] for clip in first]
    return bootstrap_mean(hits[0] - hits[1], clusters=clusters, seed=seed).to_json()


def grid_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return Table 2: a row of ours and one of the paper's for each cell, by its name."""
    papers = dict(ABLATIONS.rows)
    rows: list[tuple[str, ...]] = []
    for name, own in results.items():
        figures, gap = own["systems"][SYSTEM], own["gap"]
        found = [with_interval(figures.get(column), column) for column in FULL]
        gaps = [with_interval(gap[column], column) for column in ("magnitude", "alignment")]
        seeds = [100 * share for share in own["seeds"]["R@1"]]
        spread = f"{np.mean(seeds):.1f} ({min(seeds):.1f} to {max(seeds):.1f})"
        ahead = with_interval(own["full_ahead"], "R@1") if "full_ahead" in own else NONE
        rows.append((PAPER_ROWS[name], "ours", *found, *gaps, spread, ahead))
        rows.append(("", "paper", *map(plain, papers[PAPER_ROWS[name]]), NONE, NONE, NONE, NONE))
    judges = next(iter(results.values()))["judges"]
    n_seeds = len(next(iter(results.values()))["seeds"]["R@1"])
    over = f"R@1 over {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    return Table(
        "Table 2",
        (
            f"ours, R@k: {judges['R@k']}; FID: {judges['FID']}; IS: {judges['IS']}",
            "ours: each row is this pipeline but for what it names; intervals over source videos",
            "over seeds: mean, lowest and highest; full ahead: R@1 of the last row less that of "
            "this one, clip by clip and over all seeds",
            f"paper: {ABLATIONS.title}, {ABLATIONS.source}",
        ),
        ("", "", "R@1 %", "R@5 %", "FID", "IS", "gap magnitude", "alignment", over, "full ahead"),
        tuple(rows),
    )


def classes_table(results: Mapping[int, Mapping[str, Any]]) -> Table:
    """Return Fig. 16: R@5 of each class, by the number of classes trained on."""
    own = {count: found["systems"][SYSTEM] for count, found in results.items()}
    names = sorted({name for figures in own.values() for name in figures["by_class"]})
    rows = [
        (
            name,
            *(with_interval(f["by_class"].get(name, {}).get("R@5"), "R@5") for f in own.values()),
        )
        for name in names
    ]
    rows.append(("all", *(with_interval(figures.get("R@5"), "R@5") for figures in own.values())))
    note = "R@5 in %, among as many candidates as classes; none where there are no more than five"
    return Table("Classes", (note,), ("", *(f"{n} classes" for n in own)), tuple(rows))
