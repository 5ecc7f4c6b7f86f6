"""Figures of sounds, without any picture: is a clip's class named by what it sounds like?

zero_shot   the class whose text is nearest to the sound, by cosine; no sound of it need be known
probe       the class that a linear probe names, which was taught on the other folds

Both are means over folds of the share of clips whose class is named; equal ones in random order.
Intervals are over source recordings, drawn within each fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from avdata.config import Pipeline
from avdata.errors import SettingsError, ShardError, nearest
from stages.evaluation.labelled import Labelled, read_labelled
from stages.evaluation.painters import Painters
from stages.evaluation.settings import Settings
from stages.evaluation.system import System
from stages.evaluation.wishes import PLACE, SoundSettings
from stages.families import families
from stages.family import Family
from stages.metrics.bootstrap import bootstrap_mean, bootstrap_over_groups
from stages.metrics.gap import unit
from stages.metrics.linear_probe import LinearProbe
from stages.metrics.retrieval import chance, hits_at_k
from stages.pairs.clips import read_clips
from stages.pairs.data import PairSettings, chosen_labels
from stages.pairs.features import FeatureCache
from stages.pairs.samples import sounds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.evaluation.hearing import Listener


@dataclass(frozen=True, slots=True)
class Sounds:
    """Splits of labelled clips, by name; those that are scored; the classes to choose from."""

    splits: Mapping[str, Labelled]
    scored: tuple[str, ...]
    classes: Sequence[str]

    def targets(self, split: str) -> NDArray[np.int64]:
        """Return the class of each clip of a split as a number, [N]."""
        return np.array([self.classes.index(name) for name in self.splits[split].classes])

    def others(self, split: str) -> list[str]:
        """Return the splits that a probe of this one is taught on."""
        return [name for name in self.splits if name != split]


@dataclass(frozen=True, slots=True)
class Heard:
    """Results as plain values; of each clip its key, source, class, fold, and what was named."""

    results: dict[str, Any]
    lines: list[dict[str, Any]]
    families: list[Family]


def listening(settings: Settings, systems: Mapping[System, Family | None]) -> list[Family]:
    """Return the families whose hearing is scored; raises SettingsError for one without."""
    names = settings.sounds.listeners
    own = {one.name: one for one in systems.values() if one is not None}
    if names is None:
        return [one for one in own.values() if one.hearing is not None]
    able = {one.name: one for one in families() if one.hearing is not None}
    for name in names:
        if name not in able:
            raise SettingsError(
                f"stages.evaluate.sounds.listeners: {name!r} names no sounds; {nearest(name, able)}"
            )
    return [able[name] for name in names]


def read_sounds(shards: str, settings: Settings) -> Sounds:
    """Return the clips whose sounds are named; raises as `read_labelled` does."""
    folds = settings.sounds.folds
    if not folds:
        names = (settings.split, settings.train_split)
        test, train, classes = read_labelled(
            shards, *names, settings.classes_file, settings.max_classes, frames="none"
        )
        return Sounds(dict(zip(names, (test, train), strict=True)), names[:1], classes)
    read = {name: read_clips(shards, name, frames="none") for name in folds}
    first = {name: [next(iter(own), "") for own in clips.labels] for name, clips in read.items()}
    there = {name for own in first.values() for name in own} - {""}
    chosen = PairSettings(classes_file=settings.classes_file, max_classes=settings.max_classes)
    labels = [own for clips in read.values() for own in clips.labels]
    wanted = chosen_labels(chosen, replace(read[folds[0]], split=", ".join(folds), labels=labels))
    classes = sorted(there if wanted is None else there.intersection(wanted))
    if len(classes) < 2:
        raise SettingsError(
            f"the folds {', '.join(folds)} of {shards} have clips of {len(classes)} of the classes "
            "asked for; a class is named among two or more"
        )
    splits = {}
    for name, clips in read.items():
        kept = [own in classes for own in first[name]]
        own = [label for label, keep in zip(first[name], kept, strict=True) if keep]
        splits[name] = Labelled(clips.where(kept), own, len(clips) - len(own))
        if not own:
            raise ShardError(f"fold {name} of {shards} has no clip of {', '.join(classes[:5])}")
    return Sounds(splits, tuple(folds), classes)


def named_sounds(
    pipeline: Pipeline,
    settings: Settings,
    systems: Mapping[System, Family | None],
    painters: Painters,
    cache: FeatureCache,
) -> Heard | None:
    """Return the figures of all who hear; None: nobody does."""
    wish, hearing = settings.sounds, listening(settings, systems)
    if not hearing:
        if wish.others:
            raise SettingsError(
                "stages.evaluate.sounds.others are read as a family reads its own sound encoder: "
                "name that family in stages.evaluate.sounds.listeners"
            )
        return None
    if taken := sorted(wish.others.keys() & {one.name for one in families()}):
        raise SettingsError(
            f"stages.evaluate.sounds.others: {', '.join(taken)} is a family; give another name"
        )
    sounds = read_sounds(settings.shards or str(pipeline.output), settings)
    asked: list[tuple[str, str, Family, str | None]] = [
        *((one.name, one.title, one, None) for one in hearing),
        *((name, name, hearing[0], path) for name, path in wish.others.items()),
    ]
    lines: list[dict[str, Any]] = [
        {"key": key, "source": source, "class": own, "fold": split}
        for split in sounds.scored
        for key, source, own in zip(
            sounds.splits[split].clips.keys,
            sounds.splits[split].clips.sources,
            sounds.splits[split].classes,
            strict=True,
        )
    ]
    found = {}
    for name, title, one, path in asked:
        listener = painters.listener(one, name, path)
        hits, told = hits_of(listener, sounds, wish, cache)
        found[name] = {
            "title": title,
            "sources": {part: dict(own) for part, own in listener.sources.items()},
            **told,
            "figures": {
                figure: over_folds(lines, values, settings.resamples, pipeline.seed)
                for figure, values in hits.items()
            },
        }
        for figure, values in hits.items():
            for line, value in zip(lines, values.tolist(), strict=True):
                line.setdefault(name, {})[figure] = value
    results = {
        "clips": len(lines),
        "recordings": len({line["source"] for line in lines}),
        "clips_without_a_class": sum(sounds.splits[name].left_out for name in sounds.scored),
        "splits": {name: len(own) for name, own in sounds.splits.items()},
        "scored": list(sounds.scored),
        "classes": list(sounds.classes),
        "chance": chance(1, len(sounds.classes)),
        "settings": asdict(wish),
        "listeners": found,
    }
    return Heard(results, lines, hearing)


def hits_of(
    listener: Listener, sounds: Sounds, wish: SoundSettings, cache: FeatureCache
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Return by figure whether each scored clip's class is named [N], and who named it."""
    features = {
        name: cache.of(sounds_of(own.clips, listener.rate_hz), listener.sounds).values
        for name, own in sounds.splits.items()
        if wish.probe or name in sounds.scored
    }
    hits: dict[str, NDArray[np.float64]] = {}
    told: dict[str, Any] = {"sounds": listener.sounds.description, "texts": None}
    if listener.texts is not None:
        said = [wish.prompt.replace(PLACE, name.replace("_", " ")) for name in sounds.classes]
        words = unit(listener.texts.texts(said))  # [C, D]
        told["texts"] = listener.texts.description
        parts = [
            hits_at_k(unit(features[name]) @ words.T, sounds.targets(name), 1)
            for name in sounds.scored
        ]
        hits["zero_shot"] = np.concatenate(parts)
    if wish.probe:
        parts = [_probed(features, sounds, name, wish.probe_decay) for name in sounds.scored]
        hits["probe"] = np.concatenate(parts)
    return hits, told


def _probed(
    features: Mapping[str, NDArray[np.float32]], sounds: Sounds, fold: str, decay: float
) -> NDArray[np.float64]:
    """Return the hits in one fold of a probe that the others taught."""
    known = sounds.others(fold)
    x = np.concatenate([features[name] for name in known])
    y = np.concatenate([sounds.targets(name) for name in known])
    try:
        probe = LinearProbe.fit(x, y, len(sounds.classes), weight_decay=decay)
    except ValueError as error:
        raise ShardError(
            f"no probe can be taught for {fold} on {', '.join(known)}: {error}; leave it out by "
            "stages.evaluate.sounds.probe=false, or the class by classes_file"
        ) from None
    return hits_at_k(probe.log_probabilities(features[fold]), sounds.targets(fold), 1)


def over_folds(
    lines: Sequence[Mapping[str, Any]], hits: NDArray[np.float64], resamples: int, seed: int
) -> dict[str, Any]:
    """Return the mean over folds with its interval, and the share in each fold and class."""
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    sources = np.array([line["source"] for line in lines])

    def of(key: str) -> dict[str, Any]:
        own = np.array([line[key] for line in lines])
        return {
            str(name): bootstrap_mean(
                hits[own == name], clusters=sources[own == name], **options
            ).to_json()
            for name in dict.fromkeys(own.tolist())
        }

    folds = [line["fold"] for line in lines]
    whole = bootstrap_over_groups(hits, folds, clusters=sources, **options)
    return {**whole.to_json(), "by_fold": of("fold"), "by_class": of("class")}
