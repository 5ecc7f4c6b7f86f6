"""AdaIN as a family: what the shared programs know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.adain.systems import SYSTEMS
from stages.family import Family, Opening

if TYPE_CHECKING:
    from stages.adain.stylist import Stylist


def open_painter(opening: Opening) -> Stylist:
    """Return the trained network; raises CheckpointError."""
    from stages.adain.stylist import open_stylist

    return open_stylist(opening)


FAMILY = Family(
    name="adain",
    title="AdaIN",
    paper="Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance "
    "Normalization, ICCV 2017",
    parts={"adain": "train_adain"},
    models={"adain": "stages.adain.model:AdaIn"},
    abilities=frozenset(),
    open=open_painter,
    systems=SYSTEMS,
)
