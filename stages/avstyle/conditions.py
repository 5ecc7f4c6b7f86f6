"""What the baselines are told in the place of a sound: what a classifier heard, or a keyword.

Class prediction: the scores of YAMNet's best classes, which the shards carry for every clip.
Keyword: the clip's labels. Either becomes a vector through word vectors, or a table that is learnt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avdata.errors import SettingsError
from avdata.measures import class_names
from avdata.shards.folder import open_folder, read_dataset
from avdata.shards.index import read_index
from stages.avstyle.layers import init_xavier

BEST = 10  # classes that count: as many as the index of shards has of each clip
Condition = Literal["classes", "keyword"]


class ClassVector(nn.Module):
    """Scores of classes [B, n] ≥ 0 → what the generator is told, [B, out_dim].

    The ten best count, divided by their sum, p; nothing heard stays zero. Then W (p · words) + b,
    words [n, word_dim] being given vectors, which are not trained; without them W p + b, W being a
    learned table. names: of the classes; they stand in the file, so that a word finds its score.
    """

    words: Tensor

    def __init__(
        self, *, names: Sequence[str], word_dim: int | None = None, out_dim: int = 256
    ) -> None:
        super().__init__()
        self.names, self.out_dim = tuple(names), out_dim
        given = None if word_dim is None else torch.zeros(len(self.names), word_dim)
        self.register_buffer("words", given)
        self.table = nn.Linear(word_dim or len(self.names), out_dim)
        init_xavier(self)

    def forward(self, scores: Tensor) -> Tensor:
        if scores.shape[1] > BEST:
            best = scores.topk(BEST, dim=1)
            scores = torch.zeros_like(scores).scatter(1, best.indices, best.values)
        p = scores / scores.sum(dim=1, keepdim=True).clamp(min=1e-7)
        told: Tensor = self.table(p if self.words is None else p @ self.words)
        return told


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of every clip of a folder of shards: scores of `names`, by the clip's key."""

    names: tuple[str, ...]
    of_clip: Mapping[str, Mapping[int, float]]

    def scores(self, keys: Sequence[str]) -> Tensor:
        """Return float32 [B, n]; zeros where nothing was heard, or no label given."""
        rows = torch.zeros(len(keys), len(self.names))
        for row, key in zip(rows, keys, strict=True):
            for place, score in self.of_clip[key].items():
                row[place] = score
        return rows


def read_told(folder: str, condition: Condition, split: str = "train") -> Told:
    """Return what the index says of each clip: the best classes and their scores, or its labels.

    Labels are those of the split, in the order of the alphabet. Raises SettingsError if not one of
    its clips has any.
    """
    store = open_folder(folder)
    columns = ["tags", "tag_scores"] if condition == "classes" else ["labels"]
    rows = read_index(store, read_dataset(store), ["key", "split", *columns]).to_pylist()
    own = [row for row in rows if row["split"] == split]
    if not any(row[columns[0]] for row in own):
        raise SettingsError(
            f"condition {condition} needs {_NEEDS[condition]}, and not one of the {len(own)} clips "
            f"of {split} in {folder} has any; {_ADVICE[condition]}"
        )
    if condition == "classes":
        names = class_names()
    else:
        names = tuple(sorted({label for row in own for label in row["labels"]}))
    number = {name: place for place, name in enumerate(names)}

    def known(row: Mapping[str, Any]) -> dict[int, float]:
        scores = row["tag_scores"] if condition == "classes" else [1.0] * len(row["labels"])
        pairs = zip(row[columns[0]], scores, strict=True)
        return {number[name]: float(score) for name, score in pairs if name in number}

    return Told(names, {row["key"]: known(row) for row in rows})


_NEEDS = {"classes": "YAMNet's tags", "keyword": "labels"}
_ADVICE = {
    "classes": "name yamnet in steps.tag.taggers, run the data half again, or learn from the sound",
    "keyword": "give labels in the manifest, or learn from YAMNet's classes or from the sound",
}


def read_word_vectors(path: str, names: Sequence[str]) -> Tensor:
    """Return a vector for each name, float32 [n, word_dim], of a text file in word2vec's format.

    A line holds a word and its numbers, separated by blanks (GloVe's, fastText's; a first line of
    two counts is passed over). A name of several words has the mean of those that the file knows;
    words are compared in lower case. Raises SettingsError for a file that cannot be read and for
    names of which it knows no word.
    """
    wanted = {word for name in names for word in _words(name)}
    found: dict[str, Tensor] = {}
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, *rest = line.split()
                if (number == 1 and len(rest) == 1) or word.lower() not in wanted:
                    continue
                vector = torch.tensor([float(value) for value in rest])
                if not rest or not vector.isfinite().all():
                    raise ValueError(f"line {number} has no finite numbers after {word!r}")
                if len(sizes := {len(rest), *map(len, found.values())}) > 1:
                    raise ValueError(f"line {number}: vectors differ in length, {sorted(sizes)}")
                found.setdefault(word.lower(), vector)
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read word vectors from {path}: {error}") from None
    lost = [name for name in names if not any(word in found for word in _words(name))]
    if lost:
        raise SettingsError(
            f"{path} knows no word of {len(lost)} of {len(names)} classes, such as {lost[0]!r}; "
            "give a file of more words, or none, and a table is learnt in their place"
        )
    means = [
        torch.stack([found[word] for word in _words(name) if word in found]).mean(dim=0)
        for name in names
    ]
    return torch.stack(means)


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.lower())
