"""The answers of a user study: what people saved, held against the key."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avdata.errors import SettingsError
from stages.evaluation.questions import CHOICES, GRADES, OPTION_IDS, Question
from stages.metrics.study import (
    Answer,
    Ranking,
    precision_score,
    preference_scores,
    ranking_scores,
    realism_scores,
    recall_scores,
)

FORMAT = "avdata-user-study"


def study_key(
    questions: Sequence[Question], ours: str, rival: str, seed: int, methods: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what key.json holds: the right answers, and the study's name, a digest of them.

    methods: those that are compared.
    """
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
    if methods:
        body["methods"] = list(methods)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    return {"study": digest, **body}


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
    kept: dict[tuple[str, str], Ranking] = {}
    refused: dict[str, str] = {}
    repeated = 0
    for path in paths:
        try:
            study, rows = read_answers(path)
            if study != key["study"]:
                raise SettingsError(f"answers the study {study}, not {key['study']}")
            for _, question, chosen in rows:
                _require_known(questions, question, chosen)
        except SettingsError as error:
            refused[str(path)] = str(error)
            continue
        for person, question, chosen in rows:
            names = _named(questions[question], chosen)
            if (person, question) in kept:
                repeated += 1
            kept.setdefault((person, question), Ranking(person, question, names))
    if not kept:
        raise SettingsError("no file holds usable answers: " + "; ".join(refused.values()))

    def rankings(protocol: str) -> list[Ranking]:
        return [a for a in kept.values() if questions[a.question]["protocol"] == protocol]

    def of(protocol: str) -> list[Answer]:
        return [Answer(a.participant, a.question, frozenset(a.order)) for a in rankings(protocol)]

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
    if ranked := rankings("ranking"):
        result["ranking"] = ranking_scores(ranked, key["methods"])
    if preferred := of("preference"):
        result["preference"] = preference_scores(preferred, key["methods"])
    if graded := rankings("realism"):
        method_of = {q["id"]: q["options"]["a"]["method"] for q in key["questions"]}
        result["realism"] = realism_scores(graded, method_of)
    return result


def _named(question: Mapping[str, Any], chosen: Sequence[str]) -> tuple[str, ...]:
    """Return what was chosen: items of a precision question, grades of realism, else methods."""
    if question["protocol"] == "realism":
        return tuple(chosen)
    kind = "item" if question["protocol"] == "precision" else "method"
    return tuple(question["options"][c][kind] for c in chosen)


def _require_known(questions: Mapping[str, Any], question: str, chosen: Sequence[str]) -> None:
    """Raise SettingsError for a question or an option that there is not, or half a ranking, or
    not one choice where one is asked for."""
    protocol = questions[question]["protocol"] if question in questions else ""
    options = GRADES if protocol == "realism" else questions.get(question, {}).get("options", ())
    if not protocol or set(chosen) - set(options):
        raise SettingsError(f"has an answer this study does not know: {question}")
    if protocol in ("preference", "realism") and len(chosen) != 1:
        raise SettingsError(f"chooses {' '.join(chosen) or 'nothing'} in {question}, not one")
    if protocol != "ranking":
        return
    if sorted(chosen) != sorted(questions[question]["options"]):
        raise SettingsError(f"ranks {' '.join(chosen) or 'nothing'} in {question}, not all once")


def preferences(path: Path) -> dict[str, dict[str, float | None]]:
    """Return of each method that people ranked its mean points, and the interval over people.

    path: what `score` printed. Raises SettingsError for a file that holds no scores of a ranking.
    """
    try:
        points = json.loads(path.read_text(encoding="utf-8"))["ranking"]["points"]
        return {name: dict(own["by_people"]) for name, own in points.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} holds no scores of a ranking ({error!r}); give what python -m "
            "stages.user_study score KEY ANSWERS prints, of a study with --protocol ranking"
        ) from None
