"""A user study as one web page, and the scores of its answers.

    python -m stages.user_study build items.jsonl study/ --seed 0
    python -m stages.user_study score study/key.json answers/*.json

recall: a sound and one picture of each of two methods; people choose every picture
that fits, both or none. precision: a sound and four pictures of one method, made from sounds of
four classes; people choose the one that fits (both: Sound2Vision, user study). ranking: a sound and
one picture of each of several methods; people order them, the best first (AVStyle, of four).
preference: the same, but people choose the one that follows the sound best; realism: one picture,
which people grade from 1 to 5; guided: half of each (Robust Sound-Guided Image Manipulation).

The page needs no server: sounds and pictures are inside, answers are saved as JSON or CSV by the
person's browser. Which picture is whose stands only in key.json. A line of items.jsonl is
{"id", "label", "sound", "pictures": {method: path}}, and perhaps "content", the picture that all
methods started from, which is shown too; paths are relative to that file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from avdata.cli.options import new_app
from avdata.errors import AvdataError, SettingsError
from avdata.store import Store
from stages.evaluation.answers import FORMAT, score_files, study_key
from stages.evaluation.questions import (
    OF_METHODS,
    Protocol,
    make_questions,
    ranked_methods,
    read_items,
)
from stages.evaluation.study_page import render

app = new_app("Build a user study as one web page; score answers.", add_completion=False)


@app.command()
def build(
    items: Annotated[Path, typer.Argument(help="items.jsonl: sounds and the pictures of them.")],
    folder: Annotated[Path, typer.Argument(help="Where study.html and key.json are written.")],
    protocol: Annotated[Protocol, typer.Option(help="Which questions.")] = "both",
    questions: Annotated[int, typer.Option(help="How many, in all.", min=1)] = 20,
    ours: Annotated[str, typer.Option(help="Name of our method in the items.")] = "ours",
    rival: Annotated[str, typer.Option(help="Name of the other method.")] = "icgan",
    seed: Annotated[int, typer.Option(help="Decides what is asked and in which order.")] = 0,
    method: Annotated[
        list[str] | None,
        typer.Option(help="One that is compared with others; without any, all in the items."),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Which picture fits?",
) -> None:
    """Write the page to hand out (study.html) and the key to keep (key.json)."""
    found = read_items(items)
    methods = ranked_methods(found, method or ()) if protocol in OF_METHODS else ()
    drawn = make_questions(found, protocol, questions, ours, rival, seed, methods)
    key = study_key(drawn, ours, rival, seed, methods)
    store = Store(str(folder))
    store.write_bytes("key.json", json.dumps(key, indent=1).encode())
    store.write_bytes("study.html", render(drawn, key["study"], title).encode())
    typer.echo(f"{folder / 'study.html'}: {len(drawn)} questions; keep key.json to yourself")


@app.command()
def score(
    key: Annotated[Path, typer.Argument(help="key.json of the study.")],
    answers: Annotated[list[Path], typer.Argument(help="Files the page saved, JSON or CSV.")],
) -> None:
    """Print the scores as JSON."""
    try:
        tree = json.loads(key.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the key {key}: {error}") from None
    parts = {"format", "study", "ours", "rival", "questions"}
    if not isinstance(tree, dict) or not parts <= tree.keys() or tree["format"] != FORMAT:
        raise SettingsError(f"{key} is no key of a user study; give the key.json beside study.html")
    typer.echo(json.dumps(score_files(tree, answers), indent=1))


def main() -> None:
    """Run the command line; what the user must solve is printed without a traceback."""
    try:
        app()
    except AvdataError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
