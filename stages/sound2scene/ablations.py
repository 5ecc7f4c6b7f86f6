"""The paper's ablations: Table 2, and Fig. 16 by the number of classes."""

from stages.evaluation.grid import FULL, Grid, GridRow
from stages.sound2scene.paper import ABLATIONS

ROWS = {
    "l2": GridRow(title="L2", changes={"loss": "l2"}),
    "l_nce": GridRow(title="L_nce", changes={"loss": "l_nce"}),
    "no_selection": GridRow(
        title="without frame selection", changes={"data.frames": "mid"}, all_frames=True
    ),
    "1_s": GridRow(title="1 s of sound", changes={"duration_s": 1.0}),
    "5_s": GridRow(title="5 s of sound", changes={"duration_s": 5.0}),
    FULL: GridRow(title="L_total, selection, 10 s"),
}

GRID = Grid(
    title="Table 2",
    trainer="train_sound2scene",
    system="sound2scene",
    rows=ROWS,
    by_default=("l2", "l_nce", "1_s", "5_s", FULL),
    paper=ABLATIONS,
    inherited={"image_encoder": "image_encoder"},
    class_setting="data.max_classes",
)
