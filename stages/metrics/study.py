"""Scores of a user study: recall of two methods side by side, and 1-of-4 precision.

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
class Share:
    """A share of answers in [0, 1] (or a difference of two in [−1, 1]) with its intervals."""

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
    answers: Sequence[Answer],
    values: Sequence[float],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Share:
    """Return the mean of one value per answer; Wilson's interval where all values are 0 or 1."""
    if not answers:
        raise ValueError("there are no answers to score")

    def over(clusters: list[str]) -> Interval:
        return bootstrap_mean(
            values, clusters=clusters, resamples=resamples, level=level, seed=seed
        )

    counts = np.asarray(values)
    binary = bool(np.isin(counts, (0, 1)).all())
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
