"""A user study as one web page, and the scores of its answers.

    python -m stages.user_study build items.jsonl study/ --seed 0
    python -m stages.user_study score study/key.json answers/*.json

Two protocols (Sound2Vision, user study). recall: a sound and one picture of each of two methods;
people choose every picture that fits, both or none. precision: a sound and four pictures of one
method, made from sounds of four classes; people choose the one that fits.

The page needs no server: sounds and pictures are inside, answers are saved as JSON or CSV by the
person's browser. Which picture is whose stands only in key.json. A line of items.jsonl is
{"id", "label", "sound", "pictures": {method: path}}, paths relative to that file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from avdata.cli.options import new_app
from avdata.errors import AvdataError, SettingsError
from avdata.seeding import rng_for
from avdata.store import Store
from stages.metrics.study import Answer, precision_score, recall_scores

Protocol = Literal["recall", "precision", "both"]

FORMAT = "avdata-user-study"
OPTION_IDS = "abcd"
CHOICES = 4  # pictures of a precision question
TYPES = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".m4a": "audio/mp4",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One sound and the pictures that methods made of it."""

    id: str
    label: str
    sound: Path
    pictures: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Choice:
    """One picture of a question."""

    item: Item
    method: str


@dataclass(frozen=True, slots=True)
class Question:
    """A sound and its pictures, in the order of their ids a, b, ..."""

    id: str
    protocol: str
    item: Item
    options: tuple[Choice, ...]


def read_items(path: Path) -> list[Item]:
    """Read items.jsonl; raises SettingsError, with the line, for what cannot be used."""
    items: list[Item] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the items {path}: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pictures = {str(m): path.parent / p for m, p in row["pictures"].items()}
            item = Item(str(row["id"]), str(row["label"]), path.parent / row["sound"], pictures)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"{path}, line {number}: {error!r}; a line is "
                '{"id", "label", "sound", "pictures": {method: path}}'
            ) from None
        for file in (item.sound, *pictures.values()):
            if not file.is_file() or file.suffix.lower() not in TYPES:
                raise SettingsError(
                    f"{path}, line {number}: {file} is missing or of another kind than "
                    f"{', '.join(sorted(TYPES))}"
                )
        items.append(item)
    if len({item.id for item in items}) != len(items):
        raise SettingsError(f"{path}: two items have the same id")
    return items


def make_questions(
    items: Sequence[Item], protocol: Protocol, count: int, ours: str, rival: str, seed: int
) -> list[Question]:
    """Draw `count` questions by seed, half of each protocol for "both", in random order.

    No sound is asked twice within a protocol. Raises SettingsError if the items do not suffice.
    """
    wanted = {"recall": count // 2, "precision": count - count // 2}
    if protocol != "both":
        wanted = {protocol: count}
    drawn: list[tuple[str, Item, list[Choice]]] = []
    for name, number in wanted.items():
        rng = rng_for(seed, "user_study", name)
        needed = {ours, rival} if name == "recall" else {ours}
        usable = [item for item in items if needed <= set(item.pictures)]
        if len(usable) < number:
            raise SettingsError(
                f"{number} {name} questions need as many items with pictures of "
                f"{' and '.join(sorted(needed))}, there are {len(usable)}; lower --questions"
            )
        for i in rng.permutation(len(usable))[:number]:
            item = usable[i]
            if name == "recall":
                options = [Choice(item, ours), Choice(item, rival)]
            else:
                options = [Choice(item, ours), *_distractors(item, usable, ours, rng)]
            drawn.append((name, item, [options[j] for j in rng.permutation(len(options))]))
    order = rng_for(seed, "user_study", "order").permutation(len(drawn))
    return [
        Question(f"q{n:02d}", drawn[i][0], drawn[i][1], tuple(drawn[i][2]))
        for n, i in enumerate(order, 1)
    ]


def _distractors(
    item: Item, items: Sequence[Item], method: str, rng: np.random.Generator
) -> list[Choice]:
    labels = sorted({other.label for other in items} - {item.label})
    if len(labels) < CHOICES - 1:
        raise SettingsError(
            f"precision questions need items of at least {CHOICES} labels, there are "
            f"{len(labels) + 1}; use --protocol recall"
        )
    options = []
    for i in rng.permutation(len(labels))[: CHOICES - 1]:
        same = [other for other in items if other.label == labels[i]]
        options.append(Choice(same[int(rng.integers(len(same)))], method))
    return options


def study_key(questions: Sequence[Question], ours: str, rival: str, seed: int) -> dict[str, Any]:
    """Return what key.json holds: the right answers, and the study's name, a digest of them."""
    rows = [
        {
            "id": q.id,
            "protocol": q.protocol,
            "item": q.item.id,
            "label": q.item.label,
            "options": {
                name: {"item": o.item.id, "method": o.method}
                for name, o in zip(OPTION_IDS, q.options, strict=False)
            },
        }
        for q in questions
    ]
    body = {"format": FORMAT, "seed": seed, "ours": ours, "rival": rival, "questions": rows}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    return {"study": digest, **body}


def render(questions: Sequence[Question], study: str, title: str) -> str:
    """Return the page: one file with everything inside, and no hint of which picture is whose."""
    import jinja2

    def inline(path: Path) -> str:
        data = base64.b64encode(path.read_bytes()).decode()
        return f"data:{TYPES[path.suffix.lower()]};base64,{data}"

    data = {
        "study": study,
        "questions": [
            {
                "id": q.id,
                "protocol": q.protocol,
                "sound": inline(q.item.sound),
                "options": [
                    {"id": name, "src": inline(o.item.pictures[o.method])}
                    for name, o in zip(OPTION_IDS, q.options, strict=False)
                ],
            }
            for q in questions
        ],
    }
    templates = files("stages") / "templates"
    script = (templates / "user_study.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = (templates / "user_study.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        count=len(questions),
        data=json.dumps(data).replace("<", "\\u003c"),
        style=(templates / "user_study.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def read_answers(path: Path) -> tuple[str, list[tuple[str, str, list[str]]]]:
    """Return the study's name and (participant, question, chosen option ids) of one file.

    Raises SettingsError for a file that is no JSON or CSV of the page.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
            names = {row["study"] for row in rows}
            if len(names) != 1:
                raise ValueError(f"names {len(names)} studies")
            found = [(r["participant"], r["question"], r["chosen"].split()) for r in rows]
            return names.pop(), found
        tree = json.loads(text)
        person = str(tree["participant"])
        found = [
            (person, str(a["question"]), [str(c) for c in a["chosen"]]) for a in tree["answers"]
        ]
        return str(tree["study"]), found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path.name} holds no answers: {error!r}") from None


def score_files(key: Mapping[str, Any], paths: Sequence[Path]) -> dict[str, Any]:
    """Return the scores of all usable files; what is refused or repeated is counted.

    A person's second answer to a question (the same answers sent twice) does not count. Raises
    SettingsError if no file is usable.
    """
    questions = {q["id"]: q for q in key["questions"]}
    kept: dict[tuple[str, str], Answer] = {}
    refused: dict[str, str] = {}
    repeated = 0
    for path in paths:
        try:
            study, rows = read_answers(path)
            if study != key["study"]:
                raise SettingsError(f"answers the study {study}, not {key['study']}")
            for _, question, chosen in rows:
                if question not in questions or set(chosen) - set(questions[question]["options"]):
                    raise SettingsError(f"has an answer this study does not know: {question}")
        except SettingsError as error:
            refused[str(path)] = str(error)
            continue
        for person, question, chosen in rows:
            kind = "method" if questions[question]["protocol"] == "recall" else "item"
            names = frozenset(questions[question]["options"][c][kind] for c in chosen)
            if (person, question) in kept:
                repeated += 1
            kept.setdefault((person, question), Answer(person, question, names))
    if not kept:
        raise SettingsError("no file holds usable answers: " + "; ".join(refused.values()))

    def of(protocol: str) -> list[Answer]:
        return [a for a in kept.values() if questions[a.question]["protocol"] == protocol]

    result: dict[str, Any] = {
        "study": key["study"],
        "people": len({a.participant for a in kept.values()}),
        "answers": len(kept),
        "repeated": repeated,
        "refused": refused,
    }
    if recall := of("recall"):
        scores = recall_scores(recall, key["ours"], key["rival"])
        result["recall"] = {name: score.to_json() for name, score in scores.items()}
    if precision := of("precision"):
        right = {q["id"]: q["item"] for q in key["questions"]}
        score = precision_score(precision, right)
        result["precision"] = {"chance": 1 / CHOICES, key["ours"]: score.to_json()}
    return result


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
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Which picture fits?",
) -> None:
    """Write the page to hand out (study.html) and the key to keep (key.json)."""
    drawn = make_questions(read_items(items), protocol, questions, ours, rival, seed)
    key = study_key(drawn, ours, rival, seed)
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
