"""Results as tables of text, ours beside the papers', for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from stages.evaluation.cells import (
    NONE,
    Table,
    in_column,
    markdown,
    number,
    plain,
    with_interval,
)
from stages.evaluation.exhibits import exhibit_tables
from stages.evaluation.sound_tables import sound_headline, sound_tables

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
MOST_CHANGES = 12  # of scene, that a table shows


def headline(results: Mapping[str, Any]) -> str:
    """Return in one sentence what was scored."""
    if not results["systems"]:
        return sound_headline(results)
    left_out = results["clips_without_a_class"]
    also = f"; clips of none of these classes, left out: {left_out}" if left_out else ""
    return (
        f"{results['clips']} clips of {results['videos']} videos, {len(results['classes'])} "
        f"classes, split {results['split']} of {results['run']}; one picture a clip and system, "
        f"seed {results['seed']}{also}."
    )


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    chapters = [] if not results["systems"] else [systems_table(results)]
    chapters += [*restyled_tables(results), *sound_tables(results)]
    chapters += [*gap_tables(results), *exhibit_tables(results)]
    lead = " ".join([headline(results), *(f"**Warning:** {text}." for text in results["warnings"])])
    return markdown("Evaluation", lead, [*chapters, *paper_tables(results)])


def systems_table(results: Mapping[str, Any]) -> Table:
    """Return each system's figures, and below each what the papers report."""
    systems = results["systems"]
    also = None
    if any("IS_over_splits" in own for own in systems.values()):
        also = {name: _over_splits(own) or NONE for name, own in systems.items()}
    restyled = restyled_tables(results)
    notes = [*_notes(results), *([] if restyled else _restyling_notes(results))]
    return _figures("Ours beside the paper", notes, results, "pictures", systems, also)


def restyled_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return the figures of pictures that were restyled by a sound, where there are any."""
    named = {column["name"] for column in results["columns"] if column["table"] == "restyled"}
    asked = [name for name, own in results["systems"].items() if named & own.keys()]
    if not asked:
        return []
    notes = list(_restyling_notes(results))
    title = "Restyled pictures: the sound, the words, the picture before"
    return [_figures(title, notes, results, "restyled", asked), *_change_tables(results)]


def _figures(
    title: str,
    notes: Sequence[str],
    results: Mapping[str, Any],
    table: str,
    systems: Iterable[str],
    over_splits: Mapping[str, str] | None = None,
) -> Table:
    """Return the figures of one table, below each system's what its paper reports."""
    columns = [column for column in results["columns"] if column["table"] == table]
    names = {column["name"] for column in columns}
    rows: list[tuple[str, ...]] = []
    for system in systems:
        own, reported = results["systems"][system], results["reported"][system]
        last = [] if over_splits is None else [over_splits[system]]
        figures = [in_column(own.get(column["name"]), column) for column in columns]
        rows.append((results["titles"][system], "ours", *figures, *last))
        if any(reported.get(name) is not None for name in names):
            theirs = (plain(reported.get(c["name"]), max(2, c["digits"])) for c in columns)
            rows.append(("", "paper", *theirs, *(NONE for _ in last)))
    extra = [] if over_splits is None else [NONE]
    if names & results["chance"].keys() or table == "pictures":
        guesses = results["chance"]
        guessed = (number(100 * g, 1) if (g := guesses.get(c["name"])) else NONE for c in columns)
        rows.append(("Chance", "ours", *guessed, *extra))
    header = ("system", "", *(column["heading"] for column in columns))
    header += ("IS over splits",) if extra else ()
    return Table(title, tuple(notes), header, tuple(rows))


def _over_splits(own: Mapping[str, Any]) -> str | None:
    splits = own.get("IS_over_splits")
    return splits and f"{splits['mean']:.2f} ± {splits['deviation']:.2f}"


def _notes(results: Mapping[str, Any]) -> Iterator[str]:
    judges = results["judges"]
    why_not = judges["why_not_clip"]
    yield f"ours, R@k in %: {judges['R@k']}" + (
        f". CLIP was not used: {why_not}" if why_not else ""
    )
    yield f"ours, FID: {judges['FID']}; against {judges['FID_reference']}"
    yield f"ours, IS: {judges['IS']}; the whole set at once, and mean ± deviation over splits"
    if any("diversity" in own for own in results["systems"].values()):
        yield (
            "ours, diversity: deviation of a pixel, full scale 1, over pictures that differ by "
            "their noise alone; of real frames: over frames of one class"
        )
    yield f"ours: all pictures at {judges['judged_px']} px; intervals of 95 %, over source videos"
    for table in results["benchmarks"]:
        yield (
            f"paper: {table['title']} ({table['source']}). Other data and other judges give other "
            "values: compare rows with each other"
        )


def _restyling_notes(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield who judged pictures with sounds and texts, and what the other columns mean."""
    judges, wish = results["judges"], results["restyling"]
    given = {name for own in results["systems"].values() for name in own}
    if judges["AVC"]:
        also = f". OpenL3 was not used: {judges['why_not_avc']}" if judges["why_not_avc"] else ""
        yield f"ours, AVC: {judges['AVC']}{also}; lead: over sounds of other classes, paired"
    elif judges["why_not_avc"]:
        yield f"ours: no AVC: {judges['why_not_avc']}"
    if judges["CLIP"]:
        yield f"ours, CLIP: {judges['CLIP']}; text: “{wish['prompt']}”, {{}} being a clip's labels"
    elif judges["why_no_text"]:
        yield f"ours: no CLIP similarity: {judges['why_no_text']}"
    if "follows" in given:
        yield (
            "ours, follows and stays: the class that the judge of R@k names is the sound's, or "
            "that of the picture before; both by chance 1 / classes"
        )
    if "structure" in given:
        yield "ours, structure: correlation of the edges before and after, 1 where all are kept"
    if "louder" in given:
        yield f"ours, louder: rank correlation of gain and change over the gains {wish['gains']}"
    if "preference" in given:
        yield "ours, preference: mean points where people ranked the methods, over people"


def gap_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return the figures of the modality gap, a table for each family that has a common space."""
    note = (
        "between the features of test frames and those of their sounds, as the family's own two "
        "encoders give them, both of unit norm"
    )
    return [
        Table(
            "Modality gap" if len(results["gap"]) == 1 else f"Modality gap: {name}",
            (note,),
            ("", "ours"),
            tuple((title, _gap_cell(key, gap[key])) for key, title in GAP_TITLES.items()),
        )
        for name, gap in results["gap"].items()
    ]


def _gap_cell(key: str, value: Any) -> str:
    if key.startswith("R@"):
        return with_interval(value, percent=True, digits=1)
    return with_interval(value) if isinstance(value, Mapping) else number(value, 3)


def _change_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return AVC by change of scene, where systems were asked for it; else no table."""
    own = {name: figures.get("changes", {}) for name, figures in results["systems"].items()}
    asked = [name for name, found in own.items() if found]
    clips = {change: f["clips"] for found in own.values() for change, f in found.items()}
    if not asked:
        return []
    kept = set(sorted(clips, key=lambda change: -clips[change])[:MOST_CHANGES])
    note = "AVC of the pictures whose content shows the first scene, with sounds of the second"
    if len(kept) < len(clips):
        note += f"; of {len(clips)} changes those {len(kept)} with the most clips"
    rows = [
        (change, str(n), *(with_interval(own[name].get(change)) for name in asked))
        for change, n in clips.items()
        if change in kept
    ]
    header = ("ours", "clips", *(results["titles"][name].partition(" (")[0] for name in asked))
    return [Table("AVC by change of scene", (note,), header, tuple(rows))]


def paper_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return what else the papers report; in the rows of systems that were scored, ours beside."""
    return [_paper_table(table, results) for table in results["papers"]]


def _paper_table(table: Mapping[str, Any], results: Mapping[str, Any]) -> Table:
    written = {column["name"]: column for column in results["columns"]}
    systems = results["systems"]
    ours = [name for name, _ in table["rows"] if name in systems]
    rows: list[tuple[str, ...]] = []
    for name, values in table["rows"]:
        theirs = [plain(value, table["digits"]) for value in values]
        rows.append((table["titles"].get(name, name), *(["paper"] if ours else []), *theirs))
        if name in ours:
            cells = (_cell(systems[name], column, written) for column in table["columns"])
            rows.append(("", "ours", *cells))
    note = "paper: its own figures" if ours else "the paper's own figures, none of ours"
    header = ("", *([""] if ours else []), *table["columns"])
    return Table(f"Paper: {table['title']}", (f"{note}: {table['source']}",), header, tuple(rows))


def _cell(own: Mapping[str, Any], name: str, written: Mapping[str, Any]) -> str:
    """Return a figure of ours, or the AVC of a change of scene, as its column writes it."""
    if name in written:
        return in_column(own.get(name), written[name])
    return with_interval(own.get("changes", {}).get(name))
