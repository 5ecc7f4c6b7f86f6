"""What a scene is made from: the sound of any media file, a picture, a clip of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdata import audio, frames
from avdata.clip import KEY_PATTERN
from avdata.config import TrimSettings
from avdata.errors import AvdataError, ClipError
from avdata.shards.folder import ByteRange, open_folder, read_dataset, read_ranges
from avdata.shards.index import read_index
from avdata.steps.windows import Window, fit_window
from avdata.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = (
    *("key", "shard", "n_samples", "audio_offset", "audio_bytes", "jpg_offset", "jpg_bytes"),
    "frames",
)
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class InputError(AvdataError):
    """A sound or a picture that was given cannot be used."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound as it was recorded: float32 [n], full scale ±1, never normalised.

    name: keys the noise of its pictures and labels them. fitted: it has been through a front-end's
    `fit` and was set to its level since; nothing normalises it again.
    """

    name: str
    samples: NDArray[np.float32]
    rate_hz: int
    fitted: bool = False

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture uint8 RGB [H, W, 3] and its name."""

    name: str
    image: NDArray[np.uint8]


def read_input(
    where: str,
    hears: Callable[[], tuple[int, float]],
    run: str | None = None,
    start_s: float = 0.0,
) -> Sound | Picture:
    """Return a picture for "image:X" and files named like one, else a sound ("sound:X").

    hears: rate in Hz and length in seconds of sounds, asked for only if it is one. Other arguments
    and errors are those of `read_sound` and `read_picture`.
    """
    kind, _, rest = where.partition(":")
    if kind == "image":
        return read_picture(rest, run)
    if kind != "sound" and Path(where).suffix.lower() in PICTURE_SUFFIXES:
        return read_picture(where, run)
    return read_sound(rest if kind == "sound" else where, *hears(), run, start_s)


def read_sound(
    where: str, rate_hz: int, max_s: float, run: str | None = None, start_s: float = 0.0
) -> Sound:
    """Return the sound of a media file, or of the clip `where` of a run or its shards, resampled.

    At most max_s seconds, from start_s on. Raises InputError for what is not there, has no sound,
    is silent throughout or cannot be decoded.
    """
    if not (max_s > 0 and start_s >= 0):
        raise InputError(f"{where}: start must be 0 s or more, length above 0; {start_s}, {max_s}")
    if Path(where).is_file():
        name, samples = Path(where).stem, _decode(Path(where), rate_hz, max_s, start_s)
    else:
        name = where
        row, store = _clip(where, run, "sound")
        if not row["n_samples"]:
            raise InputError(f"clip {where} has no sound")
        place = ByteRange(row["shard"], row["audio_offset"], row["audio_bytes"])
        stored, from_hz = audio.decode(read_ranges(store, [place])[0])
        begin = round(start_s * from_hz)
        samples = audio.to_float(stored[begin : begin + round(max_s * from_hz)])
        if from_hz != rate_hz and len(samples):
            samples = audio.resample(samples, from_hz, rate_hz)
    if not len(samples):
        raise InputError(f"{where} has no sound from {start_s:g} s on")
    if not samples.any():
        raise InputError(
            f"{where} is silent from {start_s:g} s to {start_s + len(samples) / rate_hz:g} s: "
            "there is nothing to hear; give another sound or another start"
        )
    return Sound(name, samples, rate_hz)


def read_picture(where: str, run: str | None = None) -> Picture:
    """Return a still image, or of a clip of a run: "KEY" its best frame, "KEY:2" stored frame 2.

    Raises InputError for what is not there or cannot be read.
    """
    path = Path(where)
    try:
        if path.is_file():
            return Picture(path.stem, frames.decode_image(path.read_bytes()))
        key, _, number = where.partition(":")
        row, store = _clip(key, run, "picture")
        place = _frame(row, where, number)
        return Picture(where, frames.decode_jpeg(read_ranges(store, [place])[0]))
    except ClipError as error:
        hint = "; give a still image, or a clip of a run" if path.is_file() else ""
        raise InputError(f"{where}: {error.detail}{hint}") from None


def read_frame(
    where: str, heard_s: float, run: str | None = None, start_s: float = 0.0
) -> NDArray[np.uint8] | None:
    """Return the picture [H, W, 3] in the middle of the `heard_s` from start_s on of a video.

    Of a clip of a run its best frame. None for what shows nothing there.
    """
    from avdata.media.films import still

    if Path(where).is_file():
        return still(Path(where), start_s, heard_s)
    row, store = _clip(where, run, "sound")
    if row["jpg_offset"] is None:
        return None
    return frames.decode_jpeg(read_ranges(store, [_frame(row, where, "")])[0])


def _decode(path: Path, rate_hz: int, max_s: float, start_s: float) -> NDArray[np.float32]:
    from avdata.media import probe
    from avdata.media.decode import cut_source

    settings = TrimSettings(
        sample_rate_hz=rate_hz, frames_per_clip=None, short_clips="keep", short_tolerance_s=0.0
    )
    try:
        found = probe(path)
        if not found.audio_codec:
            raise InputError(f"{path} has no sound, only pictures ({found.video_codec})")
        wanted = Window(round(start_s * 1000), round((start_s + max_s) * 1000))
        window = fit_window(wanted, found.duration_ms, settings)
        with tempfile.TemporaryDirectory(prefix="avdata-") as scratch:
            cuts = cut_source(path, found.duration_ms, [window], settings, Path(scratch))
            ((_, cut),) = cuts
        if isinstance(cut, ClipError):
            raise cut
    except ClipError as error:
        raise InputError(f"{path}: no usable sound ({error.reason}): {error.detail}") from None
    return audio.to_float(cut.samples)


def _clip(key: str, run: str | None, kind: str) -> tuple[dict[str, Any], Store]:
    """Return the row of a clip in the index of the shards, and their folder."""
    if run is None or not KEY_PATTERN.fullmatch(key):
        hint = "" if run else "; for a clip, also give the run that has it"
        raise InputError(f"there is no file {key} to take a {kind} from{hint}")
    store = open_folder(run)
    rows = read_index(store, read_dataset(store), COLUMNS, [("key", "=", key)]).to_pylist()
    if not rows:
        raise InputError(f"there is no file {key}, and no clip of this key in {store.root}")
    return rows[0], store


def _frame(row: dict[str, Any], where: str, number: str) -> ByteRange:
    stored = row["frames"] or []
    if number:
        if not number.isdecimal() or int(number) >= len(stored):
            raise InputError(f"{where}: the clip has {len(stored)} stored frames, numbered from 0")
        frame = stored[int(number)]
        return ByteRange(row["shard"], frame["offset"], frame["bytes"])
    if row["jpg_offset"] is None:
        raise InputError(f"clip {where} has no picture")
    return ByteRange(row["shard"], row["jpg_offset"], row["jpg_bytes"])
