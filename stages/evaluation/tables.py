"""Results as tables of text, ours beside the papers', for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.evaluation.systems import TITLES
from stages.sound2scene.paper import BASELINES, FULL, OTHERS

Figure = Mapping[str, float | None]
GAP_TITLES = {
    "magnitude": "magnitude E‖z_V − z_A‖",
    "mean_gap": "length of the mean gap ‖E(z_V − z_A)‖",
    "orthogonality_image": "orthogonality, pictures",
    "orthogonality_audio": "orthogonality, sounds",
    "centre_image": "centre, pictures",
    "centre_audio": "centre, sounds",
    "alignment": "alignment E[z_V · z_A]",
    "R@1_to_picture": "sounds nearest to their own picture, %",
    "R@1_to_sound": "pictures nearest to their own sound, %",
}
NONE = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, notes, and rows of text below a header."""

    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def headline(results: Mapping[str, Any]) -> str:
    """Return in one sentence what was scored."""
    left_out = results["clips_without_a_class"]
    also = f"; clips of none of these classes, left out: {left_out}" if left_out else ""
    return (
        f"{results['clips']} clips of {results['videos']} videos, {len(results['classes'])} "
        f"classes, split {results['split']} of {results['run']}; one picture a clip and system, "
        f"seed {results['seed']}{also}."
    )


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    gap = [gap_table(results["gap"])] if "gap" in results else []
    chapters = [systems_table(results), *gap, *paper_tables()]
    return markdown("Evaluation", headline(results), chapters)


def markdown(title: str, lead: str, chapters: Iterable[Table]) -> str:
    """Return tables below a title and a sentence as Markdown."""
    lines = [f"# {title}", "", lead]
    for table in chapters:
        lines += ["", f"## {table.title}", ""]
        lines += [f"- {note}" for note in table.notes]
        lines += ["", _line(table.header), _line("---" for _ in table.header)]
        lines += [_line(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def systems_table(results: Mapping[str, Any]) -> Table:
    """Return each system's figures, and below each what the paper reports."""
    papers = dict(BASELINES.rows)
    judges = results["judges"]
    measured = {column for own in results["systems"].values() for column in own}
    columns = [c for c in ("R@1", "R@5", "R@10", "FID", "IS") if c in measured.union(FULL)]
    shares = [f"{column} %" for column in columns if column.startswith("R@")]
    rows: list[tuple[str, ...]] = []
    for system, own in results["systems"].items():
        splits = own["IS_over_splits"]
        over = f"{splits['mean']:.2f} ± {splits['deviation']:.2f}"
        figures = (with_interval(own.get(column), column) for column in columns)
        rows.append((TITLES[system], "ours", *figures, over))
        reported = dict(zip(FULL, papers[system], strict=True))
        theirs = (plain(reported.get(column)) for column in columns)
        rows.append(("", "paper", *theirs, NONE))
    guesses = results["chance"]
    guessed = (number(100 * guesses[c], 1) if c in guesses else NONE for c in columns)
    rows.append(("Chance", "ours", *guessed, NONE))
    return Table(
        "Ours beside the paper",
        (
            f"ours, R@k in %: {judges['R@k']}"
            + (f". CLIP was not used: {judges['why_not_clip']}" if judges["why_not_clip"] else ""),
            f"ours, FID: {judges['FID']}; against {judges['FID_reference']}",
            f"ours, IS: {judges['IS']}; the whole set at once, and mean ± deviation over splits",
            "ours: intervals of 95 %, over source videos",
            f"paper: {BASELINES.title}, by CLIP ViT-B/32 and an Inception trained on VGGSound "
            f"({BASELINES.source}). Other data and other judges give other values: compare rows "
            "with each other",
        ),
        ("system", "", *shares, "FID", "IS", "IS over splits"),
        tuple(rows),
    )


def gap_table(gap: Mapping[str, Any]) -> Table:
    """Return the figures of the modality gap."""
    rows = []
    for name, title in GAP_TITLES.items():
        value = gap[name]
        text = with_interval(value, name) if isinstance(value, Mapping) else number(value, 3)
        rows.append((title, text))
    note = "between the image encoder's z_V of test frames and the audio encoder's z_A of their "
    return Table("Modality gap", (f"{note}sounds, both of unit norm",), ("", "ours"), tuple(rows))


def paper_tables() -> list[Table]:
    """Return what else the papers report."""
    return [
        Table(
            f"Paper: {table.title}",
            (f"the paper's own figures, none of ours: {table.source}",),
            ("", *table.columns),
            tuple((name, *map(plain, values)) for name, values in table.rows),
        )
        for table in OTHERS
    ]


def plain(value: float | None) -> str:
    """Return a value as the papers write it."""
    return NONE if value is None else number(value, 2)


def number(value: float, digits: int) -> str:
    """Return a number as text, with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−")


def with_interval(figure: Figure | None, column: str) -> str:
    """Return "value (low to high)", shares in percent; a single video gives no interval."""
    if figure is None:
        return NONE
    scale, digits = (100, 1) if column.startswith("R@") else (1, 2 if column in FULL else 3)
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    text = NONE if value is None else number(scale * value, digits)
    if low is None or high is None:
        return f"{text} (one video)"
    return f"{text} ({number(scale * low, digits)} to {number(scale * high, digits)})"
