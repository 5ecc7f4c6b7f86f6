"""What the papers report, to be set beside our own; percentages for R@k, "–" where none is given.

R@k by CLIP ViT-B/32 on the category name; FID and IS by an Inception trained on VGGSound.
"""

from __future__ import annotations

from stages.evaluation.papers import PaperTable

SOUND2SCENE = "Sung-Bin et al., Sound to Visual Scene Generation, CVPR 2023"
SOUND2VISION = "Sung-Bin et al., Sound2Vision (journal version of Sound2Scene)"


FULL = ("R@1", "R@5", "FID", "IS")

BASELINES = PaperTable(
    "VGGSound, 50 classes",
    SOUND2SCENE,
    FULL,
    (
        ("icgan", (30.06, 62.59, 16.11, 12.61)),
        ("sound2scene", (40.71, 77.36, 17.97, 19.46)),
        ("retrieval", (51.28, 80.37, None, None)),
        ("upper_bound", (57.82, 85.79, None, None)),
    ),
)
"""The table beside which ours stands; its rows are named as our systems."""

ABLATIONS = PaperTable(
    "VGGSound, 50 classes: ablations (Table 2)",
    SOUND2SCENE,
    FULL,
    (
        ("L2", (18.21, 46.69, 24.05, 9.97)),
        ("L_nce", (31.63, 66.04, 27.05, 12.92)),
        ("without frame selection", (37.20, 73.13, 21.20, 17.51)),
        ("1 s of sound", (35.85, 72.02, 19.05, 17.87)),
        ("5 s of sound", (38.24, 75.76, 20.43, 18.81)),
        ("L_total, selection, 10 s", (40.71, 77.36, 17.97, 19.46)),
    ),
)
"""The table beside which our own grid of trainings stands."""

OTHERS = (
    PaperTable(
        "VEGAS",
        SOUND2SCENE,
        ("R@1", "R@5"),
        (
            ("ICGAN", (46.60, 82.48)),
            ("Sound2Scene", (57.44, 84.08)),
            ("Retrieval", (67.20, 85.00)),
            ("Upper bound", (73.60, 88.20)),
            ("Sound2Vision, LDM", (64.40, 85.40)),
        ),
    ),
    ABLATIONS,
    PaperTable(
        "VGGSound, 50 classes: diffusion models",
        SOUND2VISION,
        FULL,
        (
            ("Sound2Vision, LDM", (50.37, 81.61, 17.23, 19.55)),
            ("AudioToken", (43.11, 78.24, 17.12, 16.92)),
        ),
    ),
    PaperTable(
        "VEGAS, 5 classes",
        SOUND2VISION,
        ("R@1", "FID", "IS"),
        (
            ("Pedersoli et al.", (23.10, 118.68, 1.19)),
            ("S2I", (39.19, 114.84, 1.45)),
            ("Sound2Scene, GAN", (77.58, 34.68, 4.01)),
            ("Sound2Vision, LDM", (79.31, 32.52, 4.04)),
        ),
    ),
    PaperTable(
        "Modality gap",
        SOUND2VISION,
        ("magnitude", "alignment"),
        (("L_nce", (0.93, 0.51)), ("L_total", (0.68, 0.71))),
    ),
)
