"""The figures of sounds as tables of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.evaluation.cells import Table, in_column, number

SOUND_COLUMNS: tuple[Mapping[str, Any], ...] = (
    {"name": "zero_shot", "heading": "zero-shot %", "percent": True, "digits": 1},
    {"name": "probe", "heading": "linear probe %", "percent": True, "digits": 1},
)


def sound_headline(results: Mapping[str, Any]) -> str:
    """Return in one sentence whose sounds were named."""
    sounds = results["sounds"]
    left_out = sounds["clips_without_a_class"]
    also = f"; clips of none of these classes, left out: {left_out}" if left_out else ""
    return (
        f"Sounds of {sounds['clips']} clips of {sounds['recordings']} recordings, "
        f"{len(sounds['classes'])} classes, {_of(sounds)} of {results['run']}; seed "
        f"{results['seed']}{also}."
    )


def _of(sounds: Mapping[str, Any]) -> str:
    scored = sounds["scored"]
    return f"split {scored[0]}" if len(scored) == 1 else f"{len(scored)} folds"


def sound_tables(results: Mapping[str, Any]) -> list[Table]:
    """Return who named how many sounds, and the same by fold; without sounds, no table."""
    sounds = results["sounds"]
    if not sounds:
        return []
    listeners, wish = sounds["listeners"], sounds["settings"]
    rows = [
        (own["title"], *(in_column(own["figures"].get(c["name"]), c) for c in SOUND_COLUMNS))
        for own in listeners.values()
    ]
    guess = number(100 * sounds["chance"], 1)
    rows.append(("Chance", *(guess for _ in SOUND_COLUMNS)))
    by_fold = len(sounds["scored"]) > 1
    others = "the other folds" if by_fold else f"the split {list(sounds['splits'])[-1]}"
    notes = [
        "zero-shot: the class whose text is nearest to the sound, by cosine; text: "
        f"“{wish['prompt']}”, {{}} being the class's name, _ read as a space",
        f"linear probe: logistic regression on standardised features, taught on {others}"
        if wish["probe"]
        else "linear probe: not asked for",
        (f"means over {len(sounds['scored'])} folds; " if by_fold else "")
        + "intervals of 95 %, over source recordings"
        + (", drawn within each fold" if by_fold else ""),
    ]
    for own in listeners.values():
        texts = f"texts by {own['texts']}" if own["texts"] else "its space has no texts"
        notes.append(f"{own['title']}: sounds by {own['sounds']}; {texts}")
    tables = [
        Table(
            "Sounds: naming the class by what is heard",
            tuple(notes),
            ("", *(column["heading"] for column in SOUND_COLUMNS)),
            tuple(rows),
        )
    ]
    return [*tables, _fold_table(sounds)] if by_fold else tables


def _fold_table(sounds: Mapping[str, Any]) -> Table:
    rows = [
        (
            own["title"],
            column["heading"],
            *(in_column(own["figures"][column["name"]]["by_fold"].get(f), column) for f in folds),
        )
        for folds in [sounds["scored"]]
        for own in sounds["listeners"].values()
        for column in SOUND_COLUMNS
        if column["name"] in own["figures"]
    ]
    clips = (f"{name}: {sounds['splits'][name]}" for name in sounds["scored"])
    note = f"clips: {', '.join(clips)}"
    return Table("Sounds by fold", (note,), ("", "", *sounds["scored"]), tuple(rows))
