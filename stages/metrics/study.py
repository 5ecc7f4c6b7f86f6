"""Scores of a user study: recall of two methods side by side, 1-of-4 precision, rankings, and the
share that prefers a method and how real its pictures look.

One person answers many questions and one question is answered by many people, so answers are not
independent. Each share comes with three intervals: Wilson's, as if they were; over people (would
other people answer alike?); over questions (would other sounds do as well?).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.metrics.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_mean, wilson


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person chose in one question: names of methods (recall) or items (precision)."""

    participant: str
    question: str
    chosen: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one person named in one question, in order: the best first."""

    participant: str
    question: str
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of answers in [0, 1] (or a difference in [−1, 1], or points) with its intervals."""

    answers: int
    by_people: Interval
    by_questions: Interval
    wilson: Interval | None = None  # of single shares only

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("wilson", "by_people", "by_questions")
        intervals = {n: i.to_json() for n in names if (i := getattr(self, n)) is not None}
        return {"answers": self.answers, "value": self.by_people.value, **intervals}


def share(
    answers: Sequence[Answer] | Sequence[Ranking],
    values: Sequence[float],
    *,
    counted: bool = True,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Share:
    """Return the mean of one value per answer; Wilson's interval where all values are 0 or 1.

    counted: whether such values count something, so that there is one.
    """
    if not answers:
        raise ValueError("there are no answers to score")

    def over(clusters: list[str]) -> Interval:
        return bootstrap_mean(
            values, clusters=clusters, resamples=resamples, level=level, seed=seed
        )

    counts = np.asarray(values)
    binary = counted and bool(np.isin(counts, (0, 1)).all())
    return Share(
        answers=len(answers),
        by_people=over([a.participant for a in answers]),
        by_questions=over([a.question for a in answers]),
        wilson=wilson(int(counts.sum()), len(counts), level) if binary else None,
    )


def recall_scores(answers: Sequence[Answer], ours: str, rival: str) -> dict[str, Share]:
    """Return how often each method's picture was chosen as fitting the sound.

    Pictures of both methods are made for the sound that is played, so all of them are relevant,
    and the share that people recognise is the recall. People may choose both or none; the
    difference is paired within each answer.
    """
    mine = [float(ours in a.chosen) for a in answers]
    theirs = [float(rival in a.chosen) for a in answers]
    difference = share(answers, [m - t for m, t in zip(mine, theirs, strict=True)])
    return {
        ours: share(answers, mine),
        rival: share(answers, theirs),
        "difference": Share(difference.answers, difference.by_people, difference.by_questions),
    }


def precision_score(answers: Sequence[Answer], right: dict[str, str]) -> Share:
    """Return how often the one picture made for the sound was chosen; `right`: item by question."""
    return share(answers, [float(a.chosen == {right[a.question]}) for a in answers])


def ranking_scores(rankings: Sequence[Ranking], methods: Sequence[str]) -> dict[str, Any]:
    """Return how N methods were ranked, of complete orders of them.

    points: of each its mean rank from the end, N for the best to 1, as AVStyle's paper reports it;
    (N + 1) / 2 by chance. first: how often it was the best; 1 / N by chance. ahead: of each pair
    (a, b) how often a came before b; 1/2 by chance. Raises ValueError for half an order.
    """
    n = len(methods)
    for own in rankings:
        if sorted(own.order) != sorted(methods):
            raise ValueError(f"a ranking must order {sorted(methods)}, got {list(own.order)}")
    place = {name: [own.order.index(name) for own in rankings] for name in methods}  # 0: best
    pairs = [(a, b) for i, a in enumerate(methods) for b in methods[i + 1 :]]
    return {
        "methods": n,
        "chance": {"points": (n + 1) / 2, "first": 1 / n, "ahead": 0.5},
        "points": {
            name: share(rankings, [float(n - at) for at in own], counted=False).to_json()
            for name, own in place.items()
        },
        "first": {
            name: share(rankings, [float(at == 0) for at in own]).to_json()
            for name, own in place.items()
        },
        "ahead": {
            f"{a} before {b}": share(
                rankings, [float(x < y) for x, y in zip(place[a], place[b], strict=True)]
            ).to_json()
            for a, b in pairs
        },
    }


def preference_scores(answers: Sequence[Answer], methods: Sequence[str]) -> dict[str, Any]:
    """Return how often each of N methods was the one chosen; 1 / N by chance."""
    return {
        "chance": 1 / len(methods),
        **{
            name: share(answers, [float(a.chosen == {name}) for a in answers]).to_json()
            for name in methods
        },
    }


def realism_scores(grades: Sequence[Ranking], method_of: dict[str, str]) -> dict[str, Any]:
    """Return the mean grade of each method's pictures, from 1 to 5; method_of: by question.

    grades: of one picture each, as an order of a single name: the grade.
    """
    by_method: dict[str, list[Ranking]] = {}
    for own in grades:
        by_method.setdefault(method_of[own.question], []).append(own)
    return {
        name: share(own, [float(grade.order[0]) for grade in own], counted=False).to_json()
        for name, own in sorted(by_method.items())
    }
