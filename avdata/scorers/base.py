"""What a scorer is, and how it gets at a clip's sound and frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from avdata import audio, frames
from avdata.clip import Clip, Media
from avdata.errors import ClipError, Reason, SettingsError
from avdata.media_tar import TarReader
from avdata.store import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


__all__ = ["ScoredClip", "Scorer", "Scores", "read_setting"]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a scorer found for the T candidate frames of one clip."""

    frame_scores: NDArray[np.floating]  # [T], finite; higher matches better; [0]: none is picked
    maps: NDArray[np.float32] | None = None  # [T, h, w], where in the frame the sound comes from
    pickable: NDArray[np.bool_] | None = None  # [T]; None: every frame may be picked
    measures: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores every candidate frame of a clip; a higher score matches the sound better."""

    name: ClassVar[str]
    measures: ClassVar[tuple[str, ...]]  # names of the measures it adds to a clip
    uses_seed: ClassVar[bool]  # whether its scores depend on the run's seed

    def fingerprint(self) -> dict[str, Any]:
        """Return all that the scores depend on besides clip and seed, as plain JSON values."""
        ...

    def score(self, clip: ScoredClip) -> Scores:
        """Return the scores of a clip; one that needs a frame raises no_video without.

        Raises ClipError: no_audio, no_video or not_listed reject the clip, any other fails it.
        """
        ...


@dataclass
class ScoredClip:
    """A clip with its sound and frames, decoded when first asked for."""

    clip: Clip
    reader: TarReader
    seed: int

    @cached_property
    def media(self) -> Media:
        """What trim cut; ClipError (no_video) if there is no frame."""
        media = self.clip.media
        if media is None:
            raise ClipError(Reason.NO_VIDEO, "the clip has no media: run trim before select")
        if not media.frames:
            raise ClipError(Reason.NO_VIDEO, "trim found no frame in the clip's window")
        return media

    @cached_property
    def times_s(self) -> NDArray[np.float64]:
        """Presentation times of the candidate frames [T], in seconds after the clip's start."""
        import numpy as np

        return np.array([frame.t_s for frame in self.media.frames])

    @cached_property
    def sound(self) -> NDArray[np.float32]:
        """The clip's mono sound [n_samples] in [-1, 1); ClipError (no_audio) if there is none."""
        if self.media.n_samples == 0:
            raise ClipError(Reason.NO_AUDIO, "the clip has no sound to match its frames with")
        samples, _ = audio.decode(self.reader.read(self.media.path, self.media.audio))
        return audio.to_float(samples)

    def images(self, min_side_px: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Yield the candidate frames, uint8 RGB: whole, or decoded at the least size not below
        `min_side_px`, for measures alone."""
        for frame in self.media.frames:
            yield frames.decode_jpeg(self.reader.read(self.media.path, frame), min_side_px)


def read_setting(path: str | None, setting: str, scorer: str) -> bytes:
    """Return the content of the file that a setting names (local path or fsspec URL)."""
    if not path:
        raise SettingsError(
            f"steps.select.scorer: {scorer} needs steps.select.{setting}, the path of its file"
        )
    try:
        return Store(".").read_bytes(path)
    except OSError as error:
        raise SettingsError(
            f"steps.select.{setting}: cannot read {path!r}: {error.strerror or error}"
        ) from None
