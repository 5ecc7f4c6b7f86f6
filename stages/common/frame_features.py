"""Features of every frame of a split, several per clip, computed once.

Beside features.py, which knows one picture per clip. A file is named by the digest of all that it
depends on, so whatever changes gets a place of its own.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from avdata.errors import WeightsError
from avdata.shards import read_ranges
from avdata.store import Store
from avdata.strict import digest
from avdata.views import View, view_image
from stages.common.frozen_encoder import Encoder
from stages.common.pairs import Clips, ahead

VERSION = 1  # raise it when the same input gives other features


def frame_features(
    folder: Path,
    clips: Clips,
    encoder: Encoder,
    *,
    view: View,
    fabric: Fabric,
    batch_size: int = 64,
    workers: int = 2,
) -> NDArray[np.float32]:
    """Return float32 [M, D] of the M frames of all `clips`, a memory map, in their order.

    clips: a whole split, as `read_clips` gives it. view: of the pictures, without chance. The ranks
    share the work; the folder must be one that all of them see.
    """
    store = Store(str(folder))
    about = digest(
        {"version": VERSION, "dataset": clips.dataset, "split": clips.split},
        {"frames": clips.frame_choice, "view": view, **encoder.fingerprint()},
    )
    name = f"{about}.npy"
    if not store.exists(name):
        with ExitStack() as stack:
            own = stack.enter_context(store.writing(name)) if fabric.is_global_zero else Path()
            _compute(fabric.broadcast(own), clips, encoder, view, fabric, batch_size, workers)
            fabric.barrier()
        fabric.barrier()
    features_of_all: NDArray[np.float32] = np.load(store.full(name), mmap_mode="r")
    return features_of_all


def _compute(
    path: Path,
    clips: Clips,
    encoder: Encoder,
    view: View,
    fabric: Fabric,
    batch_size: int,
    workers: int,
) -> None:
    """Write this rank's share into the one file of all ranks."""
    frames = [frame for own in clips.frames for frame in own]
    dim = encoder.features(torch.zeros(1, 3, 64, 64, device=fabric.device)).shape[-1]
    if fabric.is_global_zero:
        np.lib.format.open_memmap(path, "w+", np.float32, (len(frames), dim)).flush()
    fabric.barrier()
    values = np.lib.format.open_memmap(path, "r+")
    unused = np.random.default_rng(0)  # the view takes no chance

    def decode(start: int) -> tuple[int, NDArray[np.uint8]]:
        data = read_ranges(clips.store, frames[start : start + batch_size])
        return start, np.stack([view_image(one, view, unused) for one in data])

    mine = range(fabric.global_rank * batch_size, len(frames), fabric.world_size * batch_size)
    for start, images in ahead(mine, decode, workers):
        features = image_features(images, encoder, fabric.device)
        if not features.isfinite().all():
            raise WeightsError(
                f"the image encoder gives features of {clips.split} that are not finite: look for "
                "NaN in its weights"
            )
        values[start : start + len(images)] = features.cpu().numpy()
    values.flush()


def image_features(images: NDArray[np.uint8], encoder: Encoder, device: torch.device) -> Tensor:
    """Return z^V [B, D], float32 and raw, of pictures [B, side, side, 3]."""
    pictures = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
    low = torch.tensor(encoder.mean, device=device).view(3, 1, 1)
    scale = torch.tensor(encoder.std, device=device).view(3, 1, 1)
    return encoder.features((pictures / 255 - low) / scale)[:, 0]
