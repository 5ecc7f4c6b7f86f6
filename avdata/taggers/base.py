"""What a tagger is, and the decoded clip that all taggers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from avdata import audio, frames
from avdata.clip import Clip, Frame, Media, Member

if TYPE_CHECKING:
    from numpy.typing import NDArray

THUMBNAIL_PX = 64
"""Frames are looked at in the smallest size JPEG offers whose sides are at least this long."""


class Sample:
    """One clip's sound and pictures, decoded when first asked for and never twice."""

    def __init__(self, clip: Clip, read: Callable[[Member | Frame], bytes]) -> None:
        self._media: Media | None = clip.media
        self._read = read

    @property
    def has_sound(self) -> bool:
        return self._media is not None and self._media.n_samples > 0

    @cached_property
    def _sound(self) -> tuple[NDArray[np.int16], int]:
        assert self._media is not None
        return audio.decode(self._read(self._media.audio))

    @property
    def pcm(self) -> NDArray[np.int16]:
        """Mono samples, int16 [n]."""
        return self._sound[0]

    @property
    def sample_rate_hz(self) -> int:
        return self._sound[1]

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """Mono samples, float32 [n] in [-1, 1)."""
        return audio.to_float(self.pcm)

    @cached_property
    def thumbnails(self) -> list[NDArray[np.uint8]]:
        """The candidate frames, each RGB uint8 [height, width, 3], all of one size."""
        stored = self._media.frames if self._media is not None else ()
        pictures = (frames.decode_jpeg(self._read(frame), THUMBNAIL_PX) for frame in stored)
        return frames.of_one_size(pictures)

    @cached_property
    def greys(self) -> list[NDArray[np.float32]]:
        """The luma (BT.601) of the thumbnails, each float32 [height, width] in [0, 1]."""
        weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
        return [picture @ weights for picture in self.thumbnails]


@dataclass(frozen=True, slots=True)
class Tags:
    """What one tagger found on one clip; empty where there was nothing to look at."""

    measures: Mapping[str, float] = field(default_factory=dict)
    class_scores: tuple[float, ...] = ()
    class_scores_max: tuple[float, ...] = ()


class Tagger(Protocol):
    """Measures one aspect of a clip. It decides nothing, and shares the decoded sample."""

    names: ClassVar[tuple[str, ...]]  # what it measures; each is explained in measures.MEASURES

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings and digests of files that its output depends on."""
        ...

    def tag(self, sample: Sample) -> Tags:
        """Return what was measured; raises ClipError for media that cannot be decoded."""
        ...
