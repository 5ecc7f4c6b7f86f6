"""What `stages.evaluate` may be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from avdata.errors import nearest
from avdata.strict import section, setting
from stages.evaluation.judges import JudgeName, Recall
from stages.evaluation.wishes import RestylingSettings, SoundSettings
from stages.families import families
from stages.judges.clip import DEFAULT
from stages.judges.inception import Resize
from stages.metrics.bootstrap import RESAMPLES
from stages.metrics.projection import Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is compared, on which clips, and who judges."""

    chapter: str = setting(
        "",
        "Name of another evaluation of the same run, such as avstyle: a chapter of its own, in "
        "stages/evaluate_NAME.",
    )
    systems: tuple[str, ...] = setting(
        (),
        "Systems by name (docs/evaluation.md), upper_bound is real frames; []: all of the families "
        "that this pipeline trains, and upper_bound.",
    )
    folders: dict[str, str] = setting(
        {},
        "Other people's pictures as systems: a name, and the folder with KEY.png of each clip.",
        path=True,
    )
    split: str = setting("test", "Split that is scored.")
    train_split: str = setting(
        "train", "Split that names the classes, teaches the probe and is retrieved from."
    )
    classes_file: str | None = setting(
        None,
        "Labels that are candidates, one a line, as for train_sound2scene; null: all.",
        path=True,
    )
    max_classes: int | None = setting(
        None, "Only the first so many of classes_file; without it, the most frequent ones."
    )
    recall: Recall = setting(
        "auto",
        "Who names the class: CLIP, or a linear probe on real training frames; auto: the probe "
        "where CLIP cannot be had.",
    )
    clip: str = setting(
        DEFAULT,
        "CLIP: a name in the weights table, a local folder, or a name on the hub.",
        path="optional",
    )
    features: JudgeName = setting(
        "inception",
        "What FID, IS and the probe look at. Only inception is comparable; image_encoder is this "
        "pipeline's own, thumbnail mean colours.",
    )
    inception: str | None = setting(
        None,
        "Inception: a pt_inception file, or what train_inception wrote; null: FID's own.",
        path="optional",
    )
    resize: Resize = setting("bicubic", "To 299 px: as clean-fid does, or as the first FID did.")
    judged_px: int = setting(
        256, "Side to which all pictures, real ones too, are brought before they are compared."
    )
    is_splits: int = setting(10, "Splits of the Inception score.")
    varied: int = setting(4, "Pictures of one sound whose diversity is measured.")
    resamples: int = setting(RESAMPLES, "Bootstrap draws of an interval.")
    projection: Method = setting(
        "tsne", "Plot of the latent space: tsne, umap (pip install 'avdata[umap]') or pca."
    )
    restyling: RestylingSettings = section(
        RestylingSettings, "Figures of pictures that were made of a picture and a sound."
    )
    pictures: bool = setting(
        True, "Score pictures; false: sounds alone, of shards that need not hold any picture."
    )
    sounds: SoundSettings = section(SoundSettings, "Figures of sounds: naming their classes.")
    parts: dict[str, str] = setting(
        {},
        "Folders or checkpoints in the place of what was trained here, by part: generator, "
        "audio_encoder, image_encoder.",
        path="optional",
    )
    ranking: str | None = setting(
        None,
        "Scores of a ranking by people, as stages.user_study printed them: the column preference.",
        path=True,
    )
    options: dict[str, dict[str, Any]] = setting(
        {},
        "Of painters, by family: what stages.generate takes as options, such as {sound_guided: "
        "{move_steps: 100}}.",
    )
    study_clips: int = setting(40, "Clips that are written for a user study; 0: none.")
    shards: str | None = setting(
        None, "Folder of shards; null: of this pipeline's own output.", path="optional"
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is one.")
    batch_size: int = setting(64, "Pictures or sounds of one batch.")
    workers: int = setting(2, "Threads that read and decode.")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]{0,40}", self.chapter):
            raise ValueError(f"chapter must be made of a-z, 0-9 and _, got {self.chapter!r}")
        if len(set(self.systems)) < len(self.systems):
            raise ValueError(f"systems must name each system once, got {list(self.systems)}")
        if self.split == self.train_split:
            raise ValueError(f"split and train_split must differ, got {self.split} for both")
        for name, least in (
            *(("is_splits", 1), ("resamples", 1), ("batch_size", 1), ("judged_px", 1)),
            *(("varied", 2), ("workers", 0), ("study_clips", 0)),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.max_classes is not None and self.max_classes < 2:
            raise ValueError(f"max_classes must be at least 2, got {self.max_classes}")
        require_options(self.options)
        known = {part for one in families() for part in one.parts}
        if strange := sorted(set(self.parts) - known):
            raise ValueError(f"parts: no {', '.join(strange)}; known: {', '.join(sorted(known))}")


def require_options(options: Mapping[str, Mapping[str, object]]) -> None:
    """Raise ValueError for a family that is not known, or an option that it has not."""
    own = {one.name: [option.key for option in one.options] for one in families()}
    for family, values in options.items():
        if family not in own:
            raise ValueError(f"options: no family is called {family!r}; {nearest(family, own)}")
        if strange := sorted(set(values) - set(own[family])):
            raise ValueError(
                f"options: {family} has no {', '.join(strange)}; it has "
                f"{', '.join(own[family]) or 'none'}"
            )
