"""Figures of pictures that were made of a picture and a sound.

correspondence  AVC: do picture and sound belong together, and by how much more than picture and
                the sound of another class?
scene_changes   AVC by change of scene: that of the picture it started from → that of the sound
clip_text       CLIP: cosine of the picture and the clip's labels
follows         how often the judge of R@k names the class of the sound, and that of the picture
structure       correlation of the edges of the picture before and after
louder          rank correlation of the sound's gain with how much the picture changed

A figure whose judge cannot be had is left out, and the notes say why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from avdata.errors import SettingsError
from avdata.frames import squash
from avdata.seeding import rng_for
from stages.evaluation.wishes import ARROW, PLACE
from stages.metrics.rank import rank_correlation
from stages.metrics.structure import edge_correlation
from stages.pairs.samples import Samples, sounds_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stages.evaluation.judged import Figure, Judged
    from stages.pairs.clips import Clips


OTHERS = 100  # sounds with which a picture's AVC is compared


def correspondence(judged: Judged) -> dict[str, Any]:
    """Return AVC, and its lead over the same pictures with sounds of another class.

    The lead is paired, picture by picture: less the mean over up to 100 test clips of other
    classes, drawn by clip and seed. Pictures without such a clip have none.
    """
    judge = judged.judges.pairs.avc
    if judge is None:
        return {}
    pictures, sounds = _avc_features(judged)
    own = judge.correspondence(pictures, sounds)
    rows, leads = [], []
    for row, target in enumerate(judged.targets):
        others = np.flatnonzero(judged.targets != target)
        if len(others):
            rng = rng_for(judged.sampling.seed, "other sounds", judged.studio.test.keys[row])
            others = rng.permutation(others)[:OTHERS]
            again = np.repeat(pictures[row : row + 1], len(others), axis=0)
            leads.append(own[row] - judge.correspondence(again, sounds[others]).mean())
            rows.append(row)
    found = judged.mean("AVC", own)
    return {**found, **judged.mean("AVC_lead", leads, rows)} if rows else found


def scene_changes(judged: Judged) -> dict[str, Any]:
    """Return {"changes": {"sunny→rainy": AVC and number of clips, ...}}: picture's → sound's."""
    judge = judged.judges.pairs.avc
    if judge is None:
        return {}
    before, after = (_scenes(judged, own) for own in (_contents(judged), judged.studio.test))
    made = [
        f"{a}{ARROW}{b}" if a and b and a != b else "" for a, b in zip(before, after, strict=True)
    ]
    own = judge.correspondence(*_avc_features(judged))
    found = {}
    for change in judged.restyling.changes or sorted({*made} - {""}):
        rows = [row for row, name in enumerate(made) if name == change]
        if rows:
            found[change] = {**judged.interval(own[rows], rows), "clips": len(rows)}
    return {"changes": found} if found else {}


def clip_text(judged: Judged) -> dict[str, Any]:
    """Return CLIP: the raw cosine of each picture and the text made of its clip's labels.

    The labels are those of the manifest, as keywords of a title are, joined by commas; of a clip
    without any, its class.
    """
    clip = judged.judges.pairs.clip
    if clip is None:
        return {}
    studio = judged.studio
    words = [
        ", ".join(labels) or name
        for labels, name in zip(studio.test.labels, studio.classes, strict=True)
    ]
    texts = [judged.restyling.prompt.replace(PLACE, own) for own in words]
    known = dict(zip(texts, clip.texts(texts), strict=True))
    seen = studio.cache.of(judged.samples, clip).values
    cosines = [float(x @ known[text]) for x, text in zip(seen, texts, strict=True)]
    return judged.mean("CLIP", cosines)


def follows(judged: Judged) -> dict[str, Any]:
    """Return how often the class that is named is the sound's, and how often the first picture's.

    Of pictures that showed another class than the sound's; between 0 and 1 for ties. Who names it
    is the judge of R@k, of a first picture that is no frame of a clip too; chance is 1 / classes
    for both.
    """
    number = {name: place for place, name in enumerate(judged.classes)}
    if judged.system.starts is not None:
        before = judged.similarity_before.argmax(axis=1)
    else:
        before = np.array([number.get(name, -1) for name in _classes(judged, _contents(judged))])
    rows = np.flatnonzero((before != judged.targets) & (before >= 0))
    if not len(rows):
        return {}
    best = judged.similarity == judged.similarity.max(axis=1, keepdims=True)  # [N, C]
    share = best / best.sum(axis=1, keepdims=True)
    return {
        **judged.mean("follows", share[rows, judged.targets[rows]], rows.tolist()),
        **judged.mean("stays", share[rows, before[rows]], rows.tolist()),
    }


def structure(judged: Judged) -> dict[str, Any]:
    """Return the correlation of the edges before and after, at the size that was drawn."""
    made = judged.system.samples(judged.studio, 0)
    return judged.mean("structure", [edge_correlation(a, b) for a, b in _pairs(judged, made)])


def louder(judged: Judged) -> dict[str, Any]:
    """Return the mean rank correlation, over clips, of gain and change; and the mean changes.

    change: mean |after − before| over pixels and colours, full scale 1, at the size that was drawn.
    """
    if judged.system.at_gain is None or not judged.restyling.gains:
        return {}
    gains = sorted(judged.restyling.gains)
    changes = []  # [K][N]
    for gain in gains:
        made = judged.system.at_gain(judged.studio, gain)
        changes.append([_change(a, b) for a, b in _pairs(judged, made)])
    ranks = rank_correlation(gains, np.array(changes).T)
    by_gain = {f"{gain:g}": judged.interval(own) for gain, own in zip(gains, changes, strict=True)}
    return {**judged.mean("louder", ranks), "change_by_gain": by_gain}


RESTYLING: dict[str, Figure] = {
    figure.__name__: figure
    for figure in (correspondence, scene_changes, clip_text, follows, structure, louder)
}


def _avc_features(judged: Judged) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    judge, studio = judged.judges.pairs.avc, judged.studio
    assert judge is not None
    sounds = sounds_of(studio.test, judge.rate_hz)
    return studio.cache.of(judged.samples, judge).values, studio.cache.of(sounds, judge).values


def _contents(judged: Judged) -> Clips:
    system = judged.system
    if system.contents is None:
        raise SettingsError(
            f"system {system.name} is to be asked which clips the pictures it started from are of, "
            "but its record names none: give System.contents, or leave the figure out"
        )
    return system.contents(judged.studio)


def _classes(judged: Judged, clips: Clips) -> list[str]:
    """Return the class of each clip: that of the scored clip, or its first label, or ""."""
    known = dict(zip(judged.studio.test.keys, judged.studio.classes, strict=True))
    return [
        known.get(key, next(iter(labels), ""))
        for key, labels in zip(clips.keys, clips.labels, strict=True)
    ]


def _scenes(judged: Judged, clips: Clips) -> list[str]:
    """Return the scene of each clip, "" where no label tells it."""
    scenes = judged.restyling.scenes
    if not scenes:
        return _classes(judged, clips)
    return [
        next((scenes[label] for label in labels if label in scenes), "") for labels in clips.labels
    ]


def _pairs(judged: Judged, made: Samples) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield each picture it started from, brought to the size that was drawn, and the result."""
    frames = judged.before
    for row in range(len(made)):
        (before,), (after,) = frames.read([row]), made.read([row])
        height, width = after.shape[:2]
        yield squash(before, width, height), after


def _change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    return float(np.abs(after.astype(np.float64) - before).mean() / 255)
