"""Clips that have a class, and the classes between which R@k chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from avdata.errors import SettingsError, ShardError
from stages.pairs.classes import read_classes
from stages.pairs.clips import Clips, FrameChoice, read_clips
from stages.pairs.data import PairSettings, chosen_labels


@dataclass(frozen=True, slots=True)
class Labelled:
    """The clips of a split that have a class; `left_out` is how many have none."""

    clips: Clips
    classes: list[str]  # of each clip
    left_out: int

    def __len__(self) -> int:
        return len(self.clips)


def read_labelled(
    shards: str,
    split: str,
    train_split: str,
    classes_file: str | None = None,
    max_classes: int | None = None,
    frames: FrameChoice = "best",
) -> tuple[Labelled, Labelled, list[str]]:
    """Return the clips to score, those of the training split, and the candidates, sorted.

    A clip's class is its first label, or where there are no labels what YAMNet heard best. The
    candidates are the classes of the training split, or those that train_sound2scene would take
    by these settings; clips of others are left out. frames: as `read_clips` takes them. Raises
    ShardError for a split without clips, SettingsError for fewer than two classes.
    """
    scored, known = (read_clips(shards, name, frames=frames) for name in (split, train_split))
    found = read_classes(shards, train_split)
    first = {key: found.names[own[0]] for key, own in found.of_clip.items() if own}
    wanted = chosen_labels(PairSettings(classes_file=classes_file, max_classes=max_classes), known)
    given = {first[key] for key in known.keys if key in first}
    classes = sorted(given if wanted is None else given.intersection(wanted))
    if len(classes) < 2:
        raise SettingsError(
            f"split {train_split} of {shards} has clips of {len(classes)} of the classes asked "
            f"for ({', '.join(classes)}); a class is named among two or more"
        )
    own = {key: name for key, name in first.items() if name in classes}
    test = _labelled(scored, own)
    if not len(test):
        raise ShardError(
            f"not one of {test.left_out} clips of {split} in {shards} has a class of "
            f"{train_split}, which has {', '.join(classes[:5])}"
        )
    return test, _labelled(known, own), classes


def _labelled(clips: Clips, own: Mapping[str, str]) -> Labelled:
    kept = clips.where(key in own for key in clips.keys)
    return Labelled(kept, [own[key] for key in kept.keys], len(clips) - len(kept))
