"""What a clip is an example of: its labels, or, where there are none, what YAMNet heard in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from avdata.clip import one_line
from avdata.errors import SettingsError, ShardError
from avdata.shards.folder import ByteRange, open_folder, read_dataset, read_ranges
from avdata.shards.index import read_index
from avdata.shards.sealed import parse_json

if TYPE_CHECKING:
    import pyarrow as pa

    from avdata.store import Store

READ_AT_ONCE = 1000  # clips whose JSON is in memory at the same time


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a training split, and those of every clip in the folder of shards."""

    names: tuple[str, ...]
    source: Literal["labels", "yamnet"]
    of_clip: Mapping[str, tuple[int, ...]]  # key to its classes; empty if it has none of these

    def targets(self, keys: Sequence[str]) -> Tensor:
        """Return float32 [B, n_classes]: a clip's classes share 1; zeros if it has none."""
        rows = torch.zeros(len(keys), len(self.names))
        for row, key in zip(rows, keys, strict=True):
            if own := self.of_clip[key]:
                row[list(own)] = 1 / len(own)
        return rows


def read_classes(
    folder: str,
    split: str = "train",
    *,
    source: Literal["auto", "labels", "yamnet"] = "auto",
    min_score: float = 0.1,
    min_clips: int = 1,
) -> Classes:
    """Return the classes of `split`, those with fewer than `min_clips` clips left out.

    source: labels of the manifest; each clip's best YAMNet class if its mean score over the clip,
    in [0, 1], reaches `min_score`; auto: labels, or YAMNet where not one clip of the split has any.
    Raises SettingsError unless there are two classes at least.
    """
    store = open_folder(folder)
    columns = ["key", "split", "labels", "shard", "json_offset", "json_bytes"]
    index = read_index(store, read_dataset(store), columns)
    own = [row == split for row in index.column("split").to_pylist()]
    found: list[tuple[str, ...]] = [tuple(row) for row in index.column("labels").to_pylist()]
    kind: Literal["labels", "yamnet"] = "labels"
    if source == "yamnet" or (source == "auto" and not _any(found, own)):
        kind, found = "yamnet", _best_tags(store, index, min_score)
    if not _any(found, own):
        raise SettingsError(_nothing(source, split, folder, min_score))
    clips = Counter(name for names, take in zip(found, own, strict=True) if take for name in names)
    names = tuple(sorted(name for name, count in clips.items() if count >= min_clips))
    if len(names) < 2:
        raise SettingsError(
            f"split {split} of {folder} has {len(names)} class(es) of at least {min_clips} clips "
            f"by its {kind} ({dict(clips.most_common(3))}); a classifier needs two or more"
        )
    number = {name: place for place, name in enumerate(names)}
    keys = index.column("key").to_pylist()
    of_clip = {
        key: tuple(number[name] for name in dict.fromkeys(row) if name in number)
        for key, row in zip(keys, found, strict=True)
    }
    return Classes(names, kind, of_clip)


def _any(found: Sequence[tuple[str, ...]], own: Sequence[bool]) -> bool:
    return any(names and take for names, take in zip(found, own, strict=True))


def _best_tags(store: Store, index: pa.Table, min_score: float) -> list[tuple[str, ...]]:
    """Return each clip's best YAMNet class, as its JSON in the shards has it."""
    ranges = [
        ByteRange(*place)
        for place in zip(
            *(index.column(name).to_pylist() for name in ("shard", "json_offset", "json_bytes")),
            strict=True,
        )
    ]
    found: list[tuple[str, ...]] = []
    for first in range(0, len(ranges), READ_AT_ONCE):
        for text in read_ranges(store, ranges[first : first + READ_AT_ONCE]):
            try:
                best = _best_tag(text, min_score)
            except (ValueError, LookupError, TypeError) as error:
                raise ShardError(
                    f"the JSON of a clip in {store.root} is not as avdata writes it "
                    f"({one_line(repr(error), 160)}); pack the shards again"
                ) from None
            found.append((best,) if best is not None else ())
    return found


def _best_tag(text: bytes, min_score: float) -> str | None:
    """Return the name of the best class that a clip's JSON has, if it scores enough."""
    heard = [(tag["score"] or 0.0, tag["name"]) for tag in parse_json(text)["tags"]]
    score, name = max(heard, key=lambda tag: float(tag[0]), default=(0.0, ""))
    if not isinstance(name, str):
        raise TypeError(f"a tag is called {name!r:.80}")
    return name if heard and score >= min_score else None


def _nothing(source: str, split: str, folder: str, min_score: float) -> str:
    tags = f"no clip has a YAMNet tag that scores {min_score:g} or more"
    advice = "name yamnet in steps.tag.taggers and run the data half again"
    if source == "labels":
        return (
            f"no clip of split {split} in {folder} has labels; give them in the manifest, or "
            "learn from YAMNet's tags (classes: yamnet, of train_localizer and train_inception)"
        )
    if source == "yamnet":
        lower = "lower train_localizer's min_tag_score"
        return f"{tags} in split {split} of {folder}; {advice}, or {lower}"
    return (
        f"no clip of split {split} in {folder} has labels, and {tags}; give labels in the "
        f"manifest, or {advice}"
    )
