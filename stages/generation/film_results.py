"""What the command `film` writes: an mp4 for each volume, and a sheet of strips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from avdata.errors import ClipError
from avdata.media import probe
from avdata.media.films import write_film
from avdata.store import Store
from stages.generation.commands import Job
from stages.generation.films import Film, Track, restyle_film
from stages.generation.inputs import InputError
from stages.generation.results import RESULT_NAME
from stages.generation.rows import heard_panel
from stages.generation.sheets import SheetRow
from stages.generation.sounds import amplitude, spoken

if TYPE_CHECKING:
    from stages.generation.painter import Restyles

LAST_S = 0.04  # that the last picture stays at least


def write_films(
    job: Job, video: Path, by: str | None, gains_db: Sequence[float], smooth_s: float
) -> None:
    """Restyle a video by its own sound, or by that of the file `by`, and say how steady it is.

    Raises InputError for files that have no picture or no sound, or cannot be decoded.
    """
    painter = cast("Restyles", job.painter)
    source = Path(by or video)
    for path in (video, source):
        if not path.is_file():
            raise InputError(f"there is no file {path} to make a film of")
    try:
        found = probe(video)
    except ClipError as error:
        raise InputError(f"{video}: no usable video ({error.reason}): {error.detail}") from None
    if not found.video_codec:
        raise InputError(f"{video} has no pictures, only sound ({found.audio_codec})")
    track = Track.read(source, painter.spec)
    length_s = found.duration_ms / 1000
    film = restyle_film(
        painter, video, track, gains_db=gains_db, length_s=length_s, smooth_s=smooth_s
    )
    store = Store(str(job.folder))
    store.delete(RESULT_NAME)  # it belongs to all files it names
    fill_s = None if by is None else max(length_s, film.last_s + LAST_S)
    films = []
    for own in film.restyled:
        name = "film.mp4" if len(gains_db) == 1 else f"film_{own.gain_db:+g}dB.mp4"
        with store.writing(name) as path:
            write_film(path, own.mp4, source, gain_db=own.gain_db, fill_s=fill_s)
        films.append({"file": name, **own.facts()})
        before, after = own.steadiness.before, own.steadiness.after
        print(
            f"{name}: {film.pictures} pictures, flicker {own.steadiness.value:.4f} of full scale "
            f"(motion {before:.4f} before, {after:.4f} after)"
        )
    rows = strips(painter, film, track, length_s)
    job.write(f"{video.stem}, restyled by {track.name}", rows, films=films)


def strips(painter: Restyles, film: Film, track: Track, length_s: float) -> list[SheetRow]:
    """Return a row of moments as they were, and one for each volume."""
    headings = [f"{time_s:.2f} s" for time_s in film.strip_times_s]
    middle = track.window(length_s / 2)
    rows = [SheetRow(title="Video", note="as it was", images=film.strip, headings=headings)]
    for own in film.restyled:
        rows.append(
            SheetRow(
                title=f"{track.name}, {spoken(own.gain_db)}",
                note=f"flicker {own.steadiness.value:.4f}",
                panel=heard_panel(painter, np.float32(amplitude(own.gain_db)) * middle),
                images=own.strip,
                headings=headings,
                facts=own.facts(),
            )
        )
    return rows
