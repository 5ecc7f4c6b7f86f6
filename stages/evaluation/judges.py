"""Who judges the pictures: CLIP or a probe for R@k; one set of features for FID, IS and probe;
OpenL3 or a network of ours for the correspondence of picture and sound.

Where CLIP cannot be had, a linear probe on real training frames names the class. Where Inception
has no class head, the Inception score is taken over the probe's classes. The results say so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from avdata.errors import WeightsError
from stages.evaluation.labelled import Labelled
from stages.judges.clip import ClipEncoder
from stages.judges.correspondence import AvcEncoder
from stages.judges.inception import InceptionFeatures
from stages.judges.probe import ProbeClassifier
from stages.judges.table import Wish, open_encoder
from stages.nn.encoder import Encoder
from stages.pairs.features import FeatureCache
from stages.pairs.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

JudgeName = Literal["inception", "image_encoder", "thumbnail"]
Recall = Literal["auto", "clip", "probe"]

OF_SOUNDS = {"correspondence", "scene_changes"}  # figures that need a judge of sounds
STANDARD_CLASSES = 1008  # of the head with which the first Inception scores were taken


@dataclass(frozen=True, slots=True)
class Named:
    """What gives scores of the classes [N, C] for features [N, D], and what it is."""

    description: str
    scores: Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(slots=True)
class PairJudges:
    """Who judges a picture together with a sound or a text; None: nobody, or nobody is asked.

    why_not_avc: why not OpenL3. why_no_text: why CLIP reads no texts.
    """

    avc: AvcEncoder | None = None
    why_not_avc: str | None = None
    clip: ClipEncoder | None = None
    why_no_text: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return for the results which network each figure comes from."""
        return {
            "AVC": None if self.avc is None else self.avc.description,
            "why_not_avc": self.why_not_avc,
            "CLIP": None if self.clip is None else f"{self.clip.name}, raw cosine",
            "why_no_text": self.why_no_text,
        }


@dataclass(frozen=True, slots=True)
class Judges:
    """The encoders and, over their features, the scores of R@k and of the Inception score."""

    recall_looks: Encoder
    recall: Named
    why_not_clip: str | None
    looks: Encoder  # for FID and IS
    inception: Named
    pairs: PairJudges

    def describe(self) -> dict[str, Any]:
        """Return for the results which network each figure comes from."""
        return {
            "R@k": self.recall.description,
            "why_not_clip": self.why_not_clip,
            "FID": self.looks.description,
            "IS": self.inception.description,
            **self.pairs.describe(),
        }


def open_looks(look: JudgeName, own: Callable[[], Encoder], wish: Wish) -> Encoder:
    """Return what FID, IS and the probe look at; raises AvdataError for missing weights.

    own: this pipeline's image encoder, for `image_encoder`.
    """
    return own() if look == "image_encoder" else open_encoder(look, wish)


def open_clip(
    recall: Recall, name: str, device: torch.device
) -> tuple[ClipEncoder | None, str | None]:
    """Return CLIP, or None and the reason why not; raises WeightsError if it is demanded."""
    if recall == "probe":
        return None, "the settings ask for a probe"
    try:
        return ClipEncoder.load(name, device=device), None
    except WeightsError as error:
        if recall == "clip":
            raise
        return None, str(error)


def open_pair_judges(
    asked: Collection[str],
    avc: str,
    own: Path,
    rate_hz: int,
    clip: ClipEncoder | str,
    device: torch.device,
) -> PairJudges:
    """Return the judges of pictures with sounds and texts that these figures need.

    avc: as `RestylingSettings.avc` says. own: folder of this pipeline's train_avc. rate_hz: of the
    sounds. clip: CLIP, or its name if it was not opened. Raises AvdataError for an AVC judge that
    is named and cannot be had.
    """
    found = PairJudges()
    if not OF_SOUNDS.isdisjoint(asked):
        found.avc, found.why_not_avc = _open_avc(avc, own, rate_hz, device)
    if "clip_text" in asked:
        found.clip, found.why_no_text = (
            (clip, None) if isinstance(clip, ClipEncoder) else open_clip("auto", clip, device)
        )
    return found


def _open_avc(
    name: str, own: Path, rate_hz: int, device: torch.device
) -> tuple[AvcEncoder | None, str | None]:
    from stages.judges.avc import TrainedAvc
    from stages.judges.openl3 import OpenL3

    if name not in ("auto", "openl3"):
        return TrainedAvc.load(name, rate_hz=rate_hz, device=device), None
    if name == "openl3":
        return OpenL3.load(rate_hz=rate_hz, device=device), None
    # What is here comes first, so that the judge does not depend on whether there is a network.
    trained = (own / "model.safetensors").is_file()
    try:
        return OpenL3.load(rate_hz=rate_hz, device=device, download=not trained), None
    except WeightsError as error:
        if trained:
            return TrainedAvc.load(own, rate_hz=rate_hz, device=device), str(error)
        return None, f"{error}; and in its place: python -m stages.train_avc is not done here"


def open_judges(
    looks: Encoder,
    clip: ClipEncoder | None,
    why_not_clip: str | None,
    train: Labelled,
    frames: Samples,
    classes: Sequence[str],
    features: FeatureCache,
    pairs: PairJudges,
) -> Judges:
    """Return the judges; a probe is taught only if one of them is a probe.

    frames: of the training clips, at the size at which all pictures are judged.
    """
    recall = None if clip is None else _by_text(clip, classes)
    inception = _by_head(looks) if isinstance(looks, InceptionFeatures) else None
    if recall is None or inception is None:
        taught = features.of(frames, looks).values
        probe = ProbeClassifier.fit(
            taught, train.classes, extractor=looks.description, class_names=classes
        )
        recall = recall or Named(probe.description, probe.similarity)
        classes_of = probe.description.removeprefix("not CLIP: ")
        inception = inception or Named(f"over the classes of {classes_of}", probe.similarity)
    return Judges(
        recall_looks=looks if clip is None else clip,
        recall=recall,
        why_not_clip=why_not_clip,
        looks=looks,
        inception=inception,
        pairs=pairs,
    )


def _by_text(clip: ClipEncoder, classes: Sequence[str]) -> Named:
    texts = clip.texts(classes)  # [C, D]
    return Named(clip.description, lambda features: np.asarray(features @ texts.T))


def _by_head(looks: InceptionFeatures) -> Named | None:
    if not looks.has_head:
        return None
    zeros = np.zeros((1, looks.dim), np.float32)
    bias = looks.logits(zeros).shape[1] != STANDARD_CLASSES  # which is scored without, by custom
    return Named(f"class head of {looks.description}", lambda x: looks.logits(x, bias=bias))
