"""A fourth family: it knows classes of sounds by their pitch, and words by a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.grid import FULL, Grid, GridRow
from stages.evaluation.hearing import Hearing, Listener
from stages.evaluation.papers import PaperTable
from stages.family import Family, Opening
from stages.nn.encoder import Encoder
from tests.stages import toy_family

RATE_HZ = 16_000
CENTRES_HZ = (300, 900, 2100)
WORDS = {"fire": (1.0, 0.2, 0.0), "sea": (0.1, 1.0, 0.1), "snow": (0.0, 0.7, 1.0)}


class Pitch(Encoder):
    """How near the loudest pitch is to three others, [N, 3]; `blur` makes it hard to tell."""

    dim, description = 3, "the toy's ear"

    def __init__(self, blur: float) -> None:
        self.blur = blur

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "pitch", "blur": self.blur}

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        hz = [np.argmax(np.abs(np.fft.rfft(x))) * RATE_HZ / len(x) for x in sounds]
        away = (np.log2(hz)[:, None] - np.log2(CENTRES_HZ)) / self.blur
        return np.exp(-(away**2)).astype(np.float32)


class Words(Encoder):
    """The vector of a text's last word."""

    dim, description = 3, "the toy's dictionary"

    def fingerprint(self) -> dict[str, Any]:
        return {"extractor": "words"}

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([WORDS[text.split()[-1]] for text in texts], np.float32)


def open_listener(opening: Opening, name: str) -> Listener:
    """Return the toy; its part is a file that says how much it blurs and whether it knows words."""
    told = {"blur": 1.0, "words": True}
    if "ear" in opening.parts:
        path = Path(opening.parts["ear"])
        told |= json.loads((path / "ear.json" if path.is_dir() else path).read_text())
    return Listener(
        sounds=Pitch(float(told["blur"])), rate_hz=RATE_HZ, texts=Words() if told["words"] else None
    )


FAMILY: Family = replace(
    toy_family.FAMILY,
    name="listener",
    title="Listener",
    # A program that there is, as pipelines name no others; what it does is never done here.
    parts={"ear": "train_avc"},
    systems=tuple(
        replace(system, name="listened", title="Listened") for system in toy_family.FAMILY.systems
    ),
    papers=(PaperTable("Table 1: sounds", "The hearing paper", ("US8K",), (("Ours", (58.6,)),)),),
    hearing=Hearing(part="ear", open=open_listener),
    ablations=Grid(
        title="Ears",
        trainer="train_avc",
        of="sounds",
        system="listener",
        rows={
            "deaf": GridRow(title="deaf", changes={"blur": 9.0}),
            FULL: GridRow(title="Ours"),
        },
        by_default=("deaf", FULL),
        paper=PaperTable("Ears", "The hearing paper", ("US8K",), (("Ours", (58.6,)),), digits=1),
        compared=("zero_shot",),
    ),
)
