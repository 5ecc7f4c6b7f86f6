"""The questions of a user study: which sounds are played, with which pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from avdata.errors import SettingsError
from avdata.seeding import rng_for

Protocol = Literal["recall", "precision", "both", "ranking", "preference", "realism", "guided"]
OF_METHODS = ("ranking", "preference", "realism", "guided")  # which name several methods
MIXED = {"both": ("recall", "precision"), "guided": ("preference", "realism")}

OPTION_IDS = "abcdefgh"
CHOICES = 4  # pictures of a precision question
GRADES = ("1", "2", "3", "4", "5")  # of realism, 5: as real as a photograph
TYPES = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".m4a": "audio/mp4",
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    """One sound and the pictures that methods made of it; content: what they started from."""

    id: str
    label: str
    sound: Path
    pictures: Mapping[str, Path]
    content: Path | None = None


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
            content = path.parent / row["content"] if row.get("content") else None
            sound = path.parent / row["sound"]
            item = Item(str(row["id"]), str(row["label"]), sound, pictures, content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"{path}, line {number}: {error!r}; a line is "
                '{"id", "label", "sound", "pictures": {method: path}}'
            ) from None
        for file in (item.sound, *pictures.values(), *([content] if content else [])):
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
    items: Sequence[Item],
    protocol: Protocol,
    count: int,
    ours: str,
    rival: str,
    seed: int,
    methods: Sequence[str] = (),
) -> list[Question]:
    """Draw `count` questions by seed, half of each for "both" and "guided", in random order.

    methods: those that are ranked, chosen among, or graded in turn. No sound is asked twice within
    a protocol. Raises SettingsError if the items do not suffice.
    """
    names = MIXED.get(protocol, (protocol,))
    wanted = dict(zip(names, (count // len(names), count - count // len(names)), strict=False))
    drawn: list[tuple[str, Item, list[Choice]]] = []
    for name, number in wanted.items():
        rng = rng_for(seed, "user_study", name)
        needed = {"recall": {ours, rival}, "precision": {ours}}.get(name, {*methods})
        usable = [item for item in items if needed <= set(item.pictures)]
        if len(usable) < number:
            raise SettingsError(
                f"{number} {name} questions need as many items with pictures of "
                f"{' and '.join(sorted(needed))}, there are {len(usable)}; lower --questions"
            )
        for place, i in enumerate(rng.permutation(len(usable))[:number]):
            item = usable[i]
            if name == "recall":
                options = [Choice(item, ours), Choice(item, rival)]
            elif name == "realism":
                options = [Choice(item, methods[place % len(methods)])]
            elif name in OF_METHODS:
                options = [Choice(item, method) for method in methods]
            else:
                options = [Choice(item, ours), *_distractors(item, usable, ours, rng)]
            drawn.append((name, item, [options[j] for j in rng.permutation(len(options))]))
    order = rng_for(seed, "user_study", "order").permutation(len(drawn))
    return [
        Question(f"q{n:02d}", drawn[i][0], drawn[i][1], tuple(drawn[i][2]))
        for n, i in enumerate(order, 1)
    ]


def ranked_methods(items: Sequence[Item], given: Sequence[str]) -> tuple[str, ...]:
    """Return which methods are compared: those given, or all of which each item has a picture.

    Raises SettingsError unless they are 2 to 8 different ones.
    """
    shared = set.intersection(*(set(item.pictures) for item in items)) if items else set()
    methods = tuple(given) or tuple(name for name in items[0].pictures if name in shared)
    if not 2 <= len(methods) == len(set(methods)) <= len(OPTION_IDS):
        raise SettingsError(
            f"people compare 2 to {len(OPTION_IDS)} different methods, got "
            f"{', '.join(methods) or 'none'}; name them, each by --method"
        )
    return methods


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
