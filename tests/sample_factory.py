"""Samples in memory, and where tests find the official YAMNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avdata import audio, frames, weights
from avdata.clip import Clip, Frame, Media, Member
from avdata.errors import WeightsError
from avdata.taggers.base import Sample


def sample_of(
    sound: NDArray[np.float32] | None = None,
    pictures: list[NDArray[np.uint8]] | None = None,
    rate: int = 16000,
) -> Sample:
    """A sample whose members are kept in memory, numbered by their offset."""
    pcm = np.zeros(0, np.int16) if sound is None else np.round(sound * 32767).astype(np.int16)
    members = [audio.encode(pcm, rate, "wav")]
    members += [frames.encode_jpeg(picture, 95) for picture in pictures or []]
    media = Media(
        path="part.tar",
        audio=Member(0, len(members[0])),
        audio_format="wav",
        sample_rate_hz=rate,
        n_samples=len(pcm),
        width_px=512,
        height_px=512,
        frames=tuple(Frame(0.5 * i, i, len(m)) for i, m in enumerate(members) if i > 0),
    )
    clip = Clip(key="k", url="u", source_id="s", media=media)
    return Sample(clip, lambda member: members[member.offset])


def yamnet_path(request: pytest.FixtureRequest) -> Path:
    """The official .tflite: out of the cache, or else of the real test data; skips without both."""
    try:
        return weights.path("yamnet", download=False)
    except WeightsError:
        folder: Path = request.getfixturevalue("shared_data") / "weights/yamnet"
        return folder / "yamnet_audio_classifier_with_metadata.tflite"
