"""Sets of pictures or sounds, and their features: computed once for each set and extractor.

    features = FeatureCache(Path("runs/x/stages/evaluate/features"))
    table = features.of(frames_of(clips), extractor)
    table.values  # float32 [N, D], a memory map, in the order of the clips

A file is named by the digest of what the samples are and what made the features, so nothing stale
is ever read, and whoever asks again, in this run or a later one, reads the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from avdata import audio, frames
from avdata.audio.spec import AudioSpec
from avdata.audio.spectrograms import fit_samples
from avdata.errors import SettingsError, WeightsError
from avdata.loader import ahead
from avdata.shards.folder import read_ranges
from avdata.strict import digest, to_tree
from stages.pairs.clips import Clips
from stages.pairs.features import computed_once, pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1  # raise it when the same samples and extractor give other features


@dataclass(frozen=True, slots=True)
class Samples:
    """N pictures uint8 [H, W, 3], or N fitted sounds float32 [n_samples].

    identity: plain values that tell what they are, without reading them. read: those of some rows.
    """

    identity: Mapping[str, Any]
    n: int
    read: Callable[[Sequence[int]], list[NDArray[Any]]]

    def __len__(self) -> int:
        return self.n


class Extractor(Protocol):
    """What turns samples into features."""

    @property
    def dim(self) -> int: ...

    def fingerprint(self) -> dict[str, Any]:
        """Return plain values on which the features depend."""
        ...

    def encode(self, batch: Sequence[NDArray[Any]], /) -> NDArray[np.float32]:
        """Return features [B, dim] of one batch."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """Features [N, D] and the digest of all that they depend on."""

    values: NDArray[np.float32]
    digest: str

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Features on disk; `workers` threads read ahead of the extractor."""

    folder: Path
    batch_size: int = 64
    workers: int = 2

    def of(self, samples: Samples, extractor: Extractor) -> Table:
        """Return the features of all samples, computing what the folder does not hold yet.

        Killed, the same call goes on where it was. Raises WeightsError for features that are not
        finite or not of the extractor's size.
        """
        name = digest(VERSION, samples.identity, extractor.fingerprint())
        title = f"features by {type(extractor).__name__}"

        def compute(part: range) -> Iterator[NDArray[np.float32]]:
            for batch in ahead(pieces(part, self.batch_size), samples.read, self.workers):
                values = extractor.encode(batch)
                if values.shape != (len(batch), extractor.dim):
                    raise WeightsError(
                        f"{type(extractor).__name__} gives features {values.shape} for "
                        f"{len(batch)} samples, not [{len(batch)}, {extractor.dim}]: are these "
                        "weights of the network that its settings describe?"
                    )
                yield values

        return Table(computed_once(self.folder, name, len(samples), compute, title=title), name)


def frames_of(clips: Clips) -> Samples:
    """Return the best frame of each clip as it is stored; what cannot be decoded: ShardError."""

    def read(rows: Sequence[int]) -> list[NDArray[Any]]:
        places = [clips.frames[row][0] for row in rows]
        decoded = zip(rows, read_ranges(clips.store, places), strict=True)
        return [clips.decoded(clips.keys[r], frames.decode_jpeg, data) for r, data in decoded]

    return Samples({"pictures": "best frame", **_which(clips)}, len(clips), read)


def sounds_of(clips: Clips, spec: AudioSpec) -> Samples:
    """Return the sound of each clip, cut or filled up as the front-end says.

    Raises SettingsError if the shards have another sample rate.
    """
    if clips.sample_rate_hz != spec.sample_rate_hz:
        raise SettingsError(
            f"the audio encoder hears at {spec.sample_rate_hz} Hz, the shards in "
            f"{clips.store.root} hold {clips.sample_rate_hz} Hz; pack them again with --set "
            f"steps.trim.sample_rate_hz={spec.sample_rate_hz}"
        )

    def read(rows: Sequence[int]) -> list[NDArray[Any]]:
        data = read_ranges(clips.store, [clips.sounds[row] for row in rows])
        keys = (clips.keys[row] for row in rows)
        decoded = (clips.decoded(k, audio.decode, d) for k, d in zip(keys, data, strict=True))
        return [fit_samples(audio.to_float(samples), spec) for samples, _ in decoded]

    return Samples({"sounds": to_tree(spec), **_which(clips)}, len(clips), read)


def _which(clips: Clips) -> dict[str, Any]:
    return {"dataset": clips.dataset, "clips": digest(clips.keys)}
