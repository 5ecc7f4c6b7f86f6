"""From shards to batches: seeded, split over ranks, decoded by threads, resumable anywhere.

    loader = Loader("runs/x/shards", "train", batch_size=32, seed=0, rank=rank, world_size=world)
    for batch in loader:            # one epoch
        batch.image                 # uint8 [batch, height, width, 3]
        batch.audio                 # int16 [batch, samples]

Needs neither torch nor the rest of the toolkit. Members are read by their byte range, so an epoch
is a true permutation of the split, not a shuffle within a window. Pictures and sound are handed
over as integers, to be normalised on the device, which saves most of the copying.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avdata import audio
from avdata.errors import ClipError, ShardError, StoreError
from avdata.sampling import Uneven, batches_of_rank, epoch_order, usable
from avdata.shards import INDEX_NAME, ByteRange, open_folder, read_dataset, read_ranges
from avdata.views import View, view_audio, view_image
from avdata.seeding import rng_for

if TYPE_CHECKING:
    import os

    import pyarrow as pa
    from numpy.typing import NDArray

COLUMNS = (
    *("key", "shard", "labels", "sample_rate_hz", "n_samples", "width_px", "height_px"),
    *("jpg_offset", "jpg_bytes", "audio_offset", "audio_bytes", "frames"),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some clips, ready for the device."""

    keys: list[str]
    labels: list[list[str]]
    image: NDArray[np.uint8]  # [batch, height, width, 3], RGB
    audio: NDArray[np.int16]  # [batch, samples], mono; float value = int / 32768
    audio_samples: NDArray[np.int64]  # [batch], how many of them are not padding
    sample_rate_hz: int

    def __len__(self) -> int:
        return len(self.keys)
