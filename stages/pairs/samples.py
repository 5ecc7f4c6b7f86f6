"""Sets of pictures, sounds or texts, read when they are needed, that tell what they are unread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from avdata import audio, frames
from avdata.errors import SettingsError
from avdata.frames import squash
from avdata.shards.folder import read_ranges
from avdata.strict import digest
from stages.nn.encoder import Kind
from stages.pairs.clips import Clips

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Samples:
    """N pictures uint8 [H, W, 3], N mono sounds float32 [n] in [-1, 1], or N texts.

    identity: plain values that tell what they are, without reading them. read: those of some rows.
    """

    kind: Kind
    identity: Mapping[str, Any]
    n: int
    read: Callable[[Sequence[int]], list[Any]]

    def __len__(self) -> int:
        return self.n

    def chosen(self, rows: Sequence[int]) -> Samples:
        """Return the samples of these rows, in this order, repeated where a row is."""
        places = [int(row) for row in rows]

        def read(wanted: Sequence[int]) -> list[Any]:
            return self.read([places[row] for row in wanted])

        identity = {"of": dict(self.identity), "rows": digest(places)}
        return Samples(self.kind, identity, len(places), read)

    def resized(self, side_px: int) -> Samples:
        """Return the pictures brought to one size, side_px squared (`avdata.frames.squash`)."""

        def read(rows: Sequence[int]) -> list[Any]:
            return [squash(image, side_px, side_px) for image in self.read(rows)]

        identity = {"of": dict(self.identity), "squashed_px": side_px}
        return Samples(self.kind, identity, self.n, read)


def frames_of(clips: Clips) -> Samples:
    """Return the best frame of each clip as it is stored; what cannot be decoded: ShardError."""

    def read(rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        places = [clips.frames[row][0] for row in rows]
        decoded = zip(rows, read_ranges(clips.store, places), strict=True)
        return [clips.decoded(clips.keys[r], frames.decode_jpeg, data) for r, data in decoded]

    return Samples("pictures", {"pictures": "best frame", **_which(clips)}, len(clips), read)


def every_frame_of(clips: Clips) -> Samples:
    """Return all frames of the clips, clip by clip; of a whole split, `Pairs.frame_rows` are rows.

    What cannot be decoded: ShardError.
    """
    own = zip(clips.keys, clips.frames, strict=True)
    places = [(key, place) for key, frames in own for place in frames]

    def read(rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        chosen = [places[row] for row in rows]
        found = read_ranges(clips.store, [place for _, place in chosen])
        pairs = zip(chosen, found, strict=True)
        return [clips.decoded(key, frames.decode_jpeg, data) for (key, _), data in pairs]

    return Samples("pictures", {"pictures": clips.frame_choice, **_which(clips)}, len(places), read)


def texts_of(texts: Sequence[str]) -> Samples:
    """Return texts as samples."""
    own = list(texts)
    return Samples("texts", {"texts": digest(own)}, len(own), lambda rows: [own[r] for r in rows])


def sounds_of(clips: Clips, rate_hz: int) -> Samples:
    """Return the whole sound of each clip; raises SettingsError if the shards have another rate."""
    if clips.sample_rate_hz != rate_hz:
        raise SettingsError(
            f"the audio encoder hears at {rate_hz} Hz, the shards in {clips.store.root} hold "
            f"{clips.sample_rate_hz} Hz; pack them again with --set "
            f"steps.trim.sample_rate_hz={rate_hz}"
        )

    def read(rows: Sequence[int]) -> list[NDArray[np.float32]]:
        data = read_ranges(clips.store, [clips.sounds[row] for row in rows])
        keys = (clips.keys[row] for row in rows)
        decoded = (clips.decoded(k, audio.decode, d) for k, d in zip(keys, data, strict=True))
        return [audio.to_float(samples) for samples, _ in decoded]

    return Samples("sounds", {"sounds": rate_hz, **_which(clips)}, len(clips), read)


def _which(clips: Clips) -> dict[str, Any]:
    return {"dataset": clips.dataset, "clips": digest(clips.keys)}
