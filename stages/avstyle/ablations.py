"""The paper's ablations: what Tables 1, 3 and 4 change in the training; and three of ours."""

from dataclasses import replace

from stages.avstyle.paper import ABLATIONS, PRETRAINING
from stages.evaluation.grid import FULL, Grid, GridRow

ROWS = {
    "class_prediction": GridRow(title="class prediction", changes={"condition": "classes"}),
    "keyword": GridRow(title="keyword", changes={"condition": "keyword"}),
    "cycle": GridRow(title="cycle consistency", changes={"consistency": "cycle"}),
    "late_fusion": GridRow(title="late fusion", changes={"fusion": "late"}),
    # As published: without the identity loss, that of the pictures weighs 1.
    "no_identity": GridRow(
        title="no identity loss", changes={"identity_weight": 0.0, "consistency_weight": 1.0}
    ),
    "selavi": GridRow(title="SeLaVi", file="init_from"),
    "wav2clip": GridRow(title="Wav2CLIP", file="init_from"),
    "film": GridRow(title="sound by scale and shift", changes={"enters": "film"}),
    "mismatched": GridRow(title="mismatched sounds are fake", changes={"mismatched": True}),
    "film_mismatched": GridRow(
        title="both of these", changes={"enters": "film", "mismatched": True}
    ),
    FULL: GridRow(title="AVStyle"),
}

GRID = Grid(
    title="Tables 3 and 4",
    trainer="train_avstyle",
    system="avstyle",
    rows=ROWS,
    by_default=("cycle", "late_fusion", "no_identity", FULL),
    paper=replace(
        ABLATIONS,
        title="Into the Wild: ablations (Tables 1, 3 and 4)",
        rows=(*ABLATIONS.rows, *PRETRAINING.rows),
    ),
    columns=("R@1", "FID", "AVC", "CLIP", "structure"),
    compared=("R@1", "AVC", "structure"),
)
