"""Features computed once, for trainings and for evaluation: one cache for every encoder.

    cache = FeatureCache(Path("runs/x/stages/evaluate/features"))
    cache.of(frames_of(clips), encoder).values  # float32 [N, D], a memory map, as the clips lie

    features = cached_features(folder, clips, encoder, image_size_px=256, device=run.device)
    features.values[row]  # float32 [D], of a frame of the clip features.keys[row]

A file is named by the digest of what the samples are and what made the features, so whatever
changes gets a place of its own, and whoever asks again, in this run or a later one, reads the file.
Under torch.distributed the ranks share the work; the folder must be one that all of them see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from avdata.errors import WeightsError
from avdata.shards.ahead import ahead
from avdata.shards.folder import ByteRange, read_ranges
from avdata.shards.views import View, view_image
from avdata.strict import digest
from stages.image_encoder.frozen import FrozenEncoder
from stages.nn.encoder import Encoder
from stages.pairs.clips import Clips
from stages.pairs.computed import Floats, computed_once, pieces
from stages.pairs.samples import Samples

VERSION = 2  # raise it when the same input gives other features
FOLDER = "features"  # beside the folders of the stages, which share it


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features [N, D] and the digest of all that they depend on."""

    values: Floats
    digest: str

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """Features on disk; `workers` threads read ahead of the encoder."""

    folder: Path
    batch_size: int = 64
    workers: int = 2

    def of(self, samples: Samples, encoder: Encoder) -> FeatureTable:
        """Return the features of all samples, computing what the folder does not hold yet.

        Killed, the same call goes on where it was. Raises WeightsError for features that are not
        finite or not of the encoder's size, SettingsError for samples of a kind it cannot read.
        """
        name = digest(VERSION, samples.kind, samples.identity, encoder.fingerprint())
        title = f"features by {type(encoder).__name__}"

        def compute(part: range) -> Iterator[Floats]:
            for batch in ahead(pieces(part, self.batch_size), samples.read, self.workers):
                values = encoder.encode(samples.kind, batch)
                if values.shape != (len(batch), encoder.dim):
                    raise WeightsError(
                        f"{type(encoder).__name__} gives features {values.shape} for {len(batch)} "
                        f"{samples.kind}, not [{len(batch)}, {encoder.dim}]: are these weights of "
                        "the network that its settings describe?"
                    )
                yield values

        return FeatureTable(
            computed_once(self.folder, name, len(samples), compute, title=title), name
        )


@dataclass(frozen=True, slots=True)
class Features:
    """The features of the frames of some clips, read from disk as they are used."""

    keys: list[str]  # [M], the clip of each row
    values: Floats  # [M, D], a memory map
    mirrored: Floats | None  # [M, D], of the frames flipped left to right
    digest: str  # of the values
    dataset: str  # digest of the shards

    def __len__(self) -> int:
        return len(self.keys)


def cached_features(
    folder: Path,
    clips: Clips,
    encoder: FrozenEncoder,
    *,
    image_size_px: int,
    mirrored: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    console: Console | None = None,
) -> Features:
    """Return the features of all frames of `clips`, computing what `folder` does not hold yet.

    image_size_px: side to which frames are squashed. mirrored: also of the flipped frames.
    console: shows how far the first rank is. Killed, the same call goes on where it was, also with
    other ranks. Raises ShardError for a frame that cannot be decoded, and WeightsError for features
    that are not finite.
    """
    own = zip(clips.keys, clips.frames, strict=True)
    rows = [(key, frame) for key, frames in own for frame in frames]
    where, view = torch.device(device), View(image_size_px=image_size_px)
    pictures = _Pictures(clips, rows, encoder, view, where, batch_size, workers)
    encoder.network.to(where).eval()

    def table(*, flip: bool) -> tuple[str, Floats]:
        name = features_digest(clips, encoder, image_size_px=image_size_px, mirrored=flip)
        title = f"features of {clips.split}{', mirrored' * flip}"
        compute = partial(pictures.features, flip=flip)
        return name, computed_once(folder, name, len(rows), compute, title=title, console=console)

    name, values = table(flip=False)
    return Features(
        keys=[key for key, _ in rows],
        values=values,
        mirrored=table(flip=True)[1] if mirrored else None,
        digest=name,
        dataset=clips.dataset,
    )


def features_digest(
    clips: Clips, encoder: FrozenEncoder, *, image_size_px: int, mirrored: bool = False
) -> str:
    """Return the name under which these features are kept."""
    return digest(
        {
            "version": VERSION,
            "encoder": encoder.fingerprint(),
            "dataset": clips.dataset,
            "split": clips.split,
            "clips": digest(clips.keys),
            "frames": clips.frame_choice,
            "image_size_px": image_size_px,
            "mirrored": mirrored,
        }
    )


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Frames as an encoder sees them."""

    clips: Clips
    rows: list[tuple[str, ByteRange]]  # of each, the clip and where it lies
    encoder: FrozenEncoder
    view: View
    device: torch.device
    batch_size: int
    workers: int

    def features(self, part: range, *, flip: bool) -> Iterator[Floats]:
        """Yield the features [B, D] of these rows, batch by batch."""
        batches = pieces(part, self.batch_size)
        for images in ahead(batches, self._decode, self.workers):
            seen = images[:, :, ::-1].copy() if flip else images
            yield self.encoder.of_pixels(seen, self.device).cpu().numpy()

    def _decode(self, batch: range) -> NDArray[np.uint8]:
        rows = self.rows[batch.start : batch.stop]
        found = read_ranges(self.clips.store, [frame for _, frame in rows])
        unused = np.random.default_rng(0)  # this view takes no chance
        return np.stack(
            [
                self.clips.decoded(key, view_image, data, self.view, unused)
                for (key, _), data in zip(rows, found, strict=True)
            ]
        )
