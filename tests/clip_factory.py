"""Clips with media of known content, packed straight into a media tar as trim leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avdata import audio, frames
from avdata.clip import Clip, Frame, Media
from avdata.config import SelectSettings
from avdata.media_tar import MediaTar, TarReader
from avdata.scorers import make_scorer
from avdata.scorers.base import ScoredClip, Scores
from avdata.steps.base import PartContext
from avdata.store import Store

RATE_HZ = 16000


class ClipFactory:
    """Makes trimmed clips whose media lie in one tar of a run folder."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.store = Store(str(root))
        self._tar = MediaTar(root / "media.tar")

    def part(self, seed: int = 0) -> PartContext:
        """Return the context in which a step reads these clips; makes no more clips after it."""
        self._tar.close()
        return PartContext(self.store, "out.tar", Path(self.store.root), seed)

    def clip(
        self,
        key: str,
        images: Sequence[np.ndarray],
        times_s: Sequence[float],
        sound: np.ndarray | None,
        rate_hz: int = RATE_HZ,
        **fields: Any,
    ) -> Clip:
        """Return a clip with these pictures (uint8 RGB) and this sound (float in [-1, 1))."""
        samples = np.zeros(0, np.int16) if sound is None else np.int16(np.round(sound * 32767))
        stored = self._tar.add(f"{key}.flac", audio.encode(samples, rate_hz, "flac"))
        members = [
            self._tar.add(f"{key}.{i}.jpg", frames.encode_jpeg(image, 92))
            for i, image in enumerate(images)
        ]
        media = Media(
            path="media.tar",
            audio=stored,
            audio_format="flac",
            sample_rate_hz=rate_hz,
            n_samples=len(samples),
            width_px=images[0].shape[1] if len(images) else 0,
            height_px=images[0].shape[0] if len(images) else 0,
            frames=tuple(
                Frame(t, member.offset, member.bytes)
                for t, member in zip(times_s, members, strict=True)
            ),
        )
        values = {"url": f"http://127.0.0.1/{key}", "source_id": key, "step": "tag"} | fields
        return Clip(key=key, media=media, **values)


def scored(factory: ClipFactory, clip: Clip, seed: int = 0, **settings: Any) -> Scores:
    """Return what the scorer of these settings finds on the clip."""
    scorer = make_scorer(SelectSettings(**settings))
    part = factory.part(seed)
    with TarReader(part.store) as reader:
        return scorer.score(ScoredClip(clip, reader, seed))


def plain(colour: tuple[int, int, int], width_px: int = 128, height_px: int = 96) -> np.ndarray:
    return np.broadcast_to(np.uint8(colour), (height_px, width_px, 3))


def clicks(at_s: list[float], length_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Short decaying noise bursts at these times, over faint noise."""
    rng = np.random.default_rng(5)
    sound = rng.normal(0, 1e-3, round(length_s * rate_hz))
    for t in at_s:
        n = round(0.05 * rate_hz)
        burst = rng.normal(0, 0.3, n) * np.exp(-np.arange(n) / (0.01 * rate_hz))
        start = round(t * rate_hz)
        sound[start : start + n] += burst[: len(sound) - start]
    return np.clip(sound, -1, 1)
