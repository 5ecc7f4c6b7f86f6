"""Runs trim on local files and reads back what it wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avdata import audio
from avdata.clip import Clip, Frame, Source
from avdata.config import TrimSettings
from avdata.frames import decode_jpeg
from avdata.media import probe
from avdata.media_tar import read_member
from avdata.steps.base import PartContext
from avdata.steps.trim import TrimStep
from avdata.store import Store
from tests.media_factory import read_bar_code


def fetched(path: Path, key: str = "clip", **columns: Any) -> Clip:
    """Return the row that fetch would hand to trim for a local file."""
    source = Source(
        path=str(path),
        sha256="0" * 64,
        bytes=path.stat().st_size,
        **dataclasses.asdict(probe(path)),
    )
    return Clip(key=key, url=str(path), source_id=path.stem, source=source, **columns)


class Trimmed:
    """What trim made of some clips, in a run folder of its own."""

    def __init__(self, folder: Path, clips: Sequence[Clip], **settings: Any) -> None:
        scratch = folder / "scratch"
        scratch.mkdir(parents=True)
        self.store = Store(str(folder))
        part = PartContext(self.store, "parts/media.tar", scratch, seed=0)
        self.rows = TrimStep(TrimSettings(**settings)).run(clips, part)
        part.finish()
        self.leftovers = [p.name for p in scratch.iterdir()]

    @property
    def tar(self) -> bytes:
        return self.store.read_bytes("parts/media.tar")

    def row(self, key: str) -> Clip:
        return next(row for row in self.rows if row.key == key)

    def sound(self, clip: Clip) -> NDArray[np.int16]:
        assert clip.media is not None, clip.detail
        samples, rate_hz = audio.decode(read_member(self.store, clip.media.path, clip.media.audio))
        assert rate_hz == clip.media.sample_rate_hz
        assert samples.size == clip.media.n_samples
        return samples

    def picture(self, clip: Clip, frame: Frame) -> NDArray[np.uint8]:
        assert clip.media is not None, clip.detail
        image = decode_jpeg(read_member(self.store, clip.media.path, frame))
        assert image.shape == (clip.media.height_px, clip.media.width_px, 3)
        return image

    def codes(self, clip: Clip) -> list[int]:
        """Return the bar codes of a clip's frames."""
        assert clip.media is not None, clip.detail
        return [read_bar_code(self.picture(clip, frame)) for frame in clip.media.frames]

    def times_s(self, clip: Clip) -> list[float]:
        assert clip.media is not None, clip.detail
        return [frame.t_s for frame in clip.media.frames]

    def video(self, clip: Clip) -> bytes:
        assert clip.media is not None, clip.detail
        assert clip.media.video is not None
        return read_member(self.store, clip.media.path, clip.media.video)
