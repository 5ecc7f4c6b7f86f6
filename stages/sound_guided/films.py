"""The way of a code as a film: one picture for each step that was kept."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from avdata.media.films import FilmWriter
from stages.generation.sheets import cell_px

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_steps(target: Path, pictures: NDArray[np.uint8], length_s: float) -> None:
    """Write pictures [n, R, R, 3] as an mp4 of this length; small ones are enlarged by a whole
    number, as on sheets. The last one stays as long as the others."""
    times = cell_px(pictures.shape[1]) // pictures.shape[1]
    step_s = Fraction(length_s) / len(pictures)
    with TemporaryDirectory(prefix="avdata-") as scratch:
        writer = FilmWriter(Path(scratch))
        try:
            for number, picture in enumerate(pictures):
                large = picture.repeat(times, axis=0).repeat(times, axis=1)
                writer.add(np.ascontiguousarray(large), number * step_s)
            writer.add(np.ascontiguousarray(large), Fraction(length_s))
            target.write_bytes(writer.finish())
        finally:
            writer.abort()
