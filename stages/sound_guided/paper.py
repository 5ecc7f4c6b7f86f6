"""What the paper reports, to be set beside our own: classification in %, codes, and its studies."""

from __future__ import annotations

from stages.evaluation.papers import PaperTable

SOURCE = "Lee et al., Robust Sound-Guided Image Manipulation, Neural Networks 2024"
SETS = ("ESC-50", "UrbanSound8K")

CLASSIFICATION = PaperTable(
    "Sounds named, accuracy in %",
    SOURCE,
    SETS,
    (
        ("ResNet50, supervised", (66.8, 71.3)),
        ("Lee et al. 2022, logistic regression", (72.2, 66.8)),
        ("this paper, logistic regression", (89.5, 72.4)),
        ("Wav2CLIP, zero-shot", (41.4, 40.4)),
        ("AudioCLIP, zero-shot", (69.4, 68.8)),
        ("Lee et al. 2022, zero-shot", (57.8, 45.7)),
        ("this paper without KL, zero-shot", (63.6, 53.2)),
        ("this paper, zero-shot", (74.4, 58.6)),
    ),
    digits=1,
)

ABLATIONS = PaperTable(
    "Sounds named zero-shot, accuracy in %",
    SOURCE,
    SETS,
    (
        ("without KL", (63.6, 53.2)),
        ("ResNet-18 (Lee et al. 2022)", (57.8, 45.7)),
        ("all of it", (74.4, 58.6)),
    ),
    digits=1,
)
"""The part of the same table beside which our grid of trainings stands."""

LATENTS = PaperTable(
    "Cosines of latent codes (Table 2)",
    SOURCE,
    ("mean", "deviation"),
    (
        ("source – audio", (0.97918, 0.00708)),
        ("source – text", (0.99420, 0.00217)),
        ("audio – text", (0.97862, 0.00772)),
    ),
    digits=5,
)
"""The table beside which the cosines of our codes stand."""

STUDY = PaperTable(
    "User study of 50 people",
    SOURCE,
    ("preferred %", "realism (1 to 5)"),
    (("this paper", (58.4, 4.333)),),
    digits=3,
)

PAINTINGS = PaperTable(
    "User study of paintings (WikiArt): shares in % as the paper lists them",
    SOURCE,
    ("first", "second", "third"),
    (("preferred", (61.2, 26.7, 12.1)),),
    digits=1,
)

OTHERS = (CLASSIFICATION, STUDY, PAINTINGS)
