"""A folder of results: images/, sheet.png, film.gif, and result.json, written last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from avdata.store import Store
from stages.generation.sheets import Row, contact_sheet, film, save_gif

RESULT_NAME, SHEET_NAME, FILM_NAME = "result.json", "sheet.png", "film.gif"


def write_results(
    folder: str | Path,
    title: str,
    rows: Sequence[Row],
    facts: Mapping[str, Any],
    *,
    steps: Sequence[Row] = (),
) -> None:
    """Write every picture as PNG, the contact sheet, and what they were made from.

    facts: plain values: command, seed, options, models. steps: what the film shows, if any.
    A result.json that is there belongs to all files it names.
    """
    store = Store(str(folder))
    store.delete(RESULT_NAME)
    listed = []
    for number, row in enumerate(rows):
        names = []
        for n, image in enumerate(row.images):
            names.append(f"images/{number:02d}-{n:02d}.png")
            _save(store, names[-1], Image.fromarray(image))
        listed.append({"title": row.title, "note": row.note, **row.facts, "images": names})
    _save(store, SHEET_NAME, contact_sheet(title, _note(facts), rows))
    if steps:
        with store.writing(FILM_NAME) as path:
            save_gif(film(steps), path)
    tree = {**facts, "rows": listed}
    store.write_bytes(RESULT_NAME, json.dumps(tree, indent=1, ensure_ascii=False).encode())


def _save(store: Store, name: str, picture: Image.Image) -> None:
    with store.writing(name) as path:
        picture.save(path, "PNG")


def _note(facts: Mapping[str, Any]) -> str:
    models = facts["models"].items()
    parts = [f"{part.replace('_', ' ')} {source['sha256'][:10]}" for part, source in models]
    return "  ·  ".join([f"seed {facts['seed']}", *parts])
