"""The paper's ablation, without the KL term, and what else the training can do without."""

from stages.evaluation.grid import FULL, Grid, GridRow
from stages.sound_guided.paper import ABLATIONS

ROWS = {
    "no_kl": GridRow(title="without KL", changes={"terms.weak": "none"}),
    "no_image": GridRow(title="without pictures", changes={"terms.image": False}),
    "no_text_augment": GridRow(title="texts as they are", changes={"texts.variants": 1}),
    "no_spec_augment": GridRow(title="without SpecAugment", changes={"spec_augmented": "none"}),
    "no_self": GridRow(title="without self-supervision", changes={"terms.sound": False}),
    # Weights that the pipeline starts from are Swin-T's.
    "resnet18": GridRow(
        title="ResNet-18 (Lee et al. 2022)", changes={"arch": "resnet18", "init_from": None}
    ),
    FULL: GridRow(title="all of it"),
}

GRID = Grid(
    title="Sounds named, by what the training consists of",
    trainer="train_sound_clip",
    of="sounds",
    system="sound_guided",
    rows=ROWS,
    by_default=tuple(ROWS),
    paper=ABLATIONS,
    compared=("zero_shot",),
    inherited={"clip": "clip"},
    published=("clip",),
)
