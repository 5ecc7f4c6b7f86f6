"""Settings of the figures of restyled pictures, and of sounds: who judges, by which words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from avdata.strict import setting

ARROW = "→"
PLACE = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestylingSettings:
    """What a picture is asked that was made of another picture and a sound."""

    avc: str = setting(
        "auto",
        "Who says whether picture and sound belong together: openl3, or what train_avc wrote (a "
        "file or folder); auto: OpenL3 if it is in the cache, or else this pipeline's train_avc, "
        "or else OpenL3 from its source.",
        path="optional",
    )
    prompt: str = setting(
        PLACE, "Text that CLIP compares pictures with; {} stands for the clip's labels."
    )
    texts: bool = setting(
        True, "Compare pictures with texts at all; CLIP is fetched for it where it is not here."
    )
    scenes: dict[str, str] = setting(
        {}, "Label: scene, for the changes of scene; without any, a clip's scene is its class."
    )
    changes: tuple[str, ...] = setting(
        ("sunny→rainy", "snowy→sunny", "sunny→snowy"),
        "Changes of scene whose AVC is told apart, picture→sound; []: all that there are.",
    )
    gains: tuple[float, ...] = setting(
        (0.25, 0.5, 1.0, 2.0),
        "Factors of the fitted sound among which the louder is to change the picture more; []: "
        "this is not asked.",
    )

    def __post_init__(self) -> None:
        if PLACE not in self.prompt:
            raise ValueError(f"prompt must hold {PLACE}, the place of the labels: {self.prompt!r}")
        if bad := [change for change in self.changes if change.count(ARROW) != 1]:
            raise ValueError(f"changes are of the form picture{ARROW}sound, got {bad[0]!r}")
        alone = len(set(self.gains)) < 2 and self.gains
        if alone or not all(g >= 0 and math.isfinite(g) for g in self.gains):
            raise ValueError(f"gains must be two or more, 0 or above, got {list(self.gains)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundSettings:
    """Who names the classes of sounds, by which words, on which folds."""

    listeners: tuple[str, ...] | None = setting(
        None, "Families whose hearing is scored; null: those of the systems; []: none."
    )
    others: dict[str, str] = setting(
        {},
        "Other sound encoders, by name: files or folders in the place of the family's own. A name "
        "that it knows as a kind, as wav2clip, tells how the file is read.",
        path=True,
    )
    folds: tuple[str, ...] = setting(
        (),
        "Splits that are the official folds: each is scored, and the probe of it is taught on the "
        "others; []: split is scored and train_split teaches.",
    )
    prompt: str = setting(
        PLACE, "Text of a class; {} stands for its name, in which _ is read as a space."
    )
    probe: bool = setting(True, "Also teach a linear probe: logistic regression, standardised.")
    probe_decay: float = setting(
        1e-3, "λ of the probe, beside the mean loss; scikit-learn's C is 1 / (λ N)."
    )

    def __post_init__(self) -> None:
        if PLACE not in self.prompt:
            raise ValueError(f"prompt must hold {PLACE}, the place of the class: {self.prompt!r}")
        if len(self.folds) == 1 or len(set(self.folds)) < len(self.folds):
            raise ValueError(f"folds must be two or more different splits, got {list(self.folds)}")
        if not (self.probe_decay > 0 and math.isfinite(self.probe_decay)):
            raise ValueError(f"probe_decay must be above 0, got {self.probe_decay}")
