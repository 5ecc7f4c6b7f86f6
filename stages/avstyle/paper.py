"""What the paper reports, to be set beside our own: AVC and CLIP's cosine (higher is better), FID.

AVC: audio-visual correspondence by OpenL3. CLIP: cosine of picture and the title's keywords by
ViT-B/32. Preference: mean rank in a study of four methods, 4 being the best.
"""

from __future__ import annotations

from stages.evaluation.papers import PaperTable

AVSTYLE = "Li et al., Learning Visual Styles from Audio-Visual Associations, ECCV 2022"

FULL = ("AVC", "FID", "CLIP")

METHODS = PaperTable(
    "Into the Wild (Table 1)",
    AVSTYLE,
    (*FULL, "preference"),
    (
        ("upper_bound", (0.842, None, 0.247, None)),
        ("class_prediction", (0.801, 91.417, 0.228, 1.833)),
        ("adain", (0.812, 62.851, 0.232, 2.269)),
        ("keyword", (0.809, 38.066, 0.236, 2.626)),
        ("avstyle", (0.820, 34.139, 0.238, 3.273)),
    ),
    titles={
        "upper_bound": "Target frames",
        "class_prediction": "Class prediction",
        "adain": "AdaIN",
        "keyword": "Keyword",
        "avstyle": "AVStyle",
    },
    digits=3,
)
"""The table beside which ours stands; its rows are named as systems."""

SCENES = PaperTable(
    "AVC by change of scene (Table 2)",
    AVSTYLE,
    ("sunny→rainy", "snowy→sunny", "sunny→snowy"),
    (
        ("class_prediction", (0.819, 0.796, 0.793)),
        ("keyword", (0.827, 0.802, 0.808)),
        ("avstyle", (0.831, 0.820, 0.816)),
    ),
    titles={"class_prediction": "Class prediction", "keyword": "Keyword", "avstyle": "AVStyle"},
    digits=3,
)

ABLATIONS = PaperTable(
    "Into the Wild: ablations (Tables 1 and 3)",
    AVSTYLE,
    FULL,
    (
        ("class prediction", (0.801, 91.417, 0.228)),
        ("keyword", (0.809, 38.066, 0.236)),
        ("cycle consistency", (0.812, 35.244, 0.232)),
        ("late fusion", (0.811, 54.025, 0.230)),
        ("no identity loss", (0.810, 41.019, 0.236)),
        ("AVStyle", (0.820, 34.139, 0.238)),
    ),
    digits=3,
)
"""The table beside which our own grid of trainings stands."""

PRETRAINING = PaperTable(
    "Into the Wild: where the sound encoder starts (Tables 3 and 4)",
    AVSTYLE,
    FULL,
    (
        ("from scratch", (0.820, 34.139, 0.238)),
        ("SeLaVi", (0.822, 32.882, 0.242)),
        ("Wav2CLIP", (0.831, 30.334, 0.246)),
    ),
    digits=3,
)

OTHERS = (METHODS, SCENES, ABLATIONS, PRETRAINING)
