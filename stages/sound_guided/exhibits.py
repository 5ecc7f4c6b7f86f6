"""What the paper shows of its codes: their cosines (Table 2), and the ways that they went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stages.evaluation.cells import NONE, Table, number, with_interval
from stages.evaluation.exhibits import Exhibit, Showing
from stages.metrics.bootstrap import bootstrap_mean
from stages.metrics.code_cosines import code_cosines
from stages.metrics.projection import project
from stages.metrics.scatter import scatter_svg
from stages.sound_guided.paper import LATENTS
from stages.sound_guided.systems import MOVED, SOURCE, codes_of, sounds_asked, texts_asked

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYSTEMS = ("sound_guided", "text_guided")
MOST = 1000  # clips in the plot


def code_exhibits(showing: Showing) -> list[Exhibit]:
    """Return Table 2 and the plot of directions, where sounds and texts were both scored."""
    if not set(SYSTEMS) <= set(showing.systems):
        return []
    studio = showing.studio
    heard = codes_of(studio, sounds_asked(studio))  # [N, 2, L, W]
    said = codes_of(studio, texts_asked(studio))
    return [_cosines(showing, heard, said)]


def _cosines(showing: Showing, heard: NDArray[np.float32], said: NDArray[np.float32]) -> Exhibit:
    """Return the cosines of codes, and where w − w_s leads, on a plane."""
    pairs = {
        "source – audio": (heard[:, SOURCE], heard[:, MOVED]),
        "source – text": (said[:, SOURCE], said[:, MOVED]),
        "audio – text": (heard[:, MOVED], said[:, MOVED]),
    }
    figures: dict[str, Any] = {}
    rows: list[tuple[str, ...]] = []
    for name, (one, other) in pairs.items():
        cosines = code_cosines(one, other)
        mean = bootstrap_mean(cosines, **showing.sampling.options).to_json()
        deviation = float(cosines.std())
        figures[name] = {**mean, "deviation": deviation}
        theirs = LATENTS.row(name)
        paper = [number(x, 5) if (x := theirs[c]) is not None else NONE for c in LATENTS.columns]
        rows.append((name, "ours", with_interval(mean, digits=5), number(deviation, 5)))
        rows.append(("", "paper", *paper))
    plot, caption = directions_plot(showing, heard, said)
    table = Table(
        "Codes before and after",
        (
            "cosines of codes, all layers in one vector: mean and its interval over source videos, "
            "deviation over clips",
            f"the plot: w − w_s of each clip, {caption}",
            f"paper: {LATENTS.source}, Table 2",
        ),
        ("", "", "mean", "deviation"),
        tuple(rows),
    )
    return Exhibit(name="codes-sound_guided", table=table, figures=figures, plot=plot)


def directions_plot(
    showing: Showing, heard: NDArray[np.float32], said: NDArray[np.float32]
) -> tuple[str, str]:
    """Return w − w_s by sound and by text on a plane (SVG), by class, and how it came about."""
    rows = np.arange(len(heard))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(showing.studio.seed).choice(rows, MOST, False))
    ways = [
        (codes[rows, MOVED] - codes[rows, SOURCE]).reshape(len(rows), -1) for codes in (heard, said)
    ]
    plane = project(np.concatenate(ways), showing.projection, seed=showing.studio.seed)
    classes = [showing.studio.classes[row] for row in rows.tolist()]
    kinds = ["by sound"] * len(rows) + ["by text"] * len(rows)
    caption = f"{plane.method}; {len(rows)} clips"
    return scatter_svg(plane.points, classes * 2, kinds, caption), caption
