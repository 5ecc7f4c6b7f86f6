"""A folder of results: images/, sheet.png, film.gif, section.html, and result.json, written last.

section.html is a chapter for the report, if the folder is <run>/stages/NAME.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from avdata.report.gallery import data_uri
from avdata.report.training import SECTION
from avdata.store import Store
from stages.generation.sheets import SheetRow, contact_sheet, film, save_gif

RESULT_NAME, SHEET_NAME, FILM_NAME = "result.json", "sheet.png", "film.gif"


def write_results(
    folder: str | Path,
    title: str,
    rows: Sequence[SheetRow],
    facts: Mapping[str, Any],
    *,
    steps: Sequence[SheetRow] = (),
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
    shown = [SHEET_NAME, FILM_NAME] if steps else [SHEET_NAME]
    store.write_bytes(SECTION, _section(store, title, shown).encode())
    tree = {**facts, "rows": listed}
    store.write_bytes(RESULT_NAME, json.dumps(tree, indent=1, ensure_ascii=False).encode())


def _section(store: Store, title: str, names: Sequence[str]) -> Markup:
    html = Markup("<h2>{}</h2>\n").format(title)
    for name in names:
        uri = data_uri(f"image/{name.rpartition('.')[2]}", store.read_bytes(name))
        html += Markup('<img src="{}" alt="{}" style="max-width:100%">\n').format(uri, title)
    return html


def _save(store: Store, name: str, picture: Image.Image) -> None:
    with store.writing(name) as path:
        picture.save(path, "PNG")


def _note(facts: Mapping[str, Any]) -> str:
    models = facts["models"].items()
    parts = [f"{part.replace('_', ' ')} {source['sha256'][:10]}" for part, source in models]
    return "  ·  ".join([f"seed {facts['seed']}", *parts])
