"""AVStyle as a family: what the shared programs know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.avstyle.ablations import GRID
from stages.avstyle.commands import COMMANDS
from stages.avstyle.paper import METHODS, OTHERS
from stages.avstyle.systems import SYSTEMS
from stages.family import Family, Opening
from stages.generation.commands import Option, positive

if TYPE_CHECKING:
    from stages.avstyle.restyler import Restyler


def open_painter(opening: Opening) -> Restyler:
    """Return the parts put together; raises as `load_model` does."""
    from stages.avstyle.load import load_model

    given: dict[str, Any] = {**opening.parts, **opening.options}
    return load_model(opening.run, **given, device=opening.device)


FAMILY = Family(
    name="avstyle",
    title="AVStyle",
    paper="Li et al., Learning Visual Styles from Audio-Visual Associations, ECCV 2022",
    parts={"style_generator": "train_avstyle", "sound_encoder": "train_avstyle"},
    models={
        "avstyle_generator": "stages.avstyle.generator:Generator",
        "avstyle_sound_encoder": "stages.avstyle.sound_encoder:SoundEncoder",
        "avstyle_condition": "stages.avstyle.conditions:ClassVector",
    },
    abilities=frozenset({"hears", "restyles"}),
    open=open_painter,
    options=(
        Option(
            ("--size-px",),
            {"type": positive, "help": "shorter side of restyled pictures (as trained)"},
        ),
    ),
    systems=SYSTEMS,
    commands=COMMANDS,
    benchmark=METHODS,
    papers=OTHERS,
    ablations=GRID,
)
