"""What instance-conditioned training sees of a split: features to condition on, real neighbours.

Casanova et al., Instance-conditioned GAN, NeurIPS 2021: p(x | h_i) is the uniform distribution over
the k nearest neighbours of instance i in feature space.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avdata.errors import SettingsError, ShardError
from avdata.loader import Loader
from avdata.shards.views import View
from avdata.store import Store
from avdata.strict import digest
from stages.nn.pictures import as_pictures
from stages.pairs.features import Features
from stages.pairs.neighbours import neighbourhoods

VERSION = 1  # raise it when the same input gives other pictures or neighbours


@dataclass(frozen=True, slots=True)
class Instances:
    """A split in random access: pictures and features are memory maps, in the same order.

    pictures: uint8 [N, S, S, 3]. neighbours: [N, k], rows of every row's nearest others.
    """

    pictures: NDArray[np.uint8]
    features: Features
    neighbours: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pictures)

    def conditions(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Return unit-norm features [B, D] of the rows, of every second picture as mirrored."""
        numbers = rows.cpu().numpy()
        values = torch.from_numpy(self.features.values[numbers])
        if self.features.mirrored is not None:
            mirrored = torch.from_numpy(self.features.mirrored[numbers])
            flip = torch.rand(len(rows), 1, generator=rng, device=rng.device) < 0.5
            values = torch.where(flip.cpu(), mirrored, values)
        return F.normalize(values, dim=1).to(rows.device)

    def reals(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Return a random neighbour of each row, pictures [B, 3, S, S] in [-1, 1].

        Every second one is mirrored where the features are known of both.
        """
        k = self.neighbours.shape[1]
        column = torch.randint(k, rows.shape, generator=rng, device=rng.device)
        chosen = self.neighbours[rows.cpu().numpy(), column.cpu().numpy()]
        x = as_pictures(self.pictures[chosen], rows.device)
        if self.features.mirrored is None:
            return x
        flip = torch.rand(len(rows), generator=rng, device=rng.device) < 0.5
        return torch.where(flip.to(x.device)[:, None, None, None], x.flip(3), x)


def open_instances(
    folder: Path,
    shards: str | os.PathLike[str],
    split: str,
    features: Features,
    *,
    size_px: int,
    k: int,
    device: torch.device,
    workers: int = 2,
) -> Instances:
    """Return the instances of a split; what `folder` does not hold yet is made there first.

    k: neighbours of an instance, itself excluded, by the angle between features (the Euclidean
    distance at unit norm). Under torch.distributed let one rank make them before the others come.
    Raises SettingsError if there are not more than k pictures, ShardError if the shards are not
    those of the features.
    """
    if not 1 <= k < len(features):
        raise SettingsError(
            f"neighbours must be from 1 to {len(features) - 1}, as {split} has {len(features)} "
            f"pictures, got {k}"
        )
    store = Store(str(folder))
    pictures = f"pictures-{digest({'version': VERSION}, features.dataset, split, size_px)}.npy"
    if not store.exists(pictures):
        with store.writing(pictures) as path:
            _decode(path, shards, features, split, size_px, workers)
    near = f"neighbours-{digest({'version': VERSION}, features.digest, k)}.npy"
    if not store.exists(near):
        values = np.array(features.values)
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        with store.writing(near) as path, path.open("wb") as file:
            np.save(file, neighbourhoods(values, k, device=device))
    return Instances(
        pictures=np.load(store.full(pictures), mmap_mode="r"),
        features=features,
        neighbours=np.load(store.full(near)),
    )


def _decode(
    path: Path,
    shards: str | os.PathLike[str],
    features: Features,
    split: str,
    size_px: int,
    workers: int,
) -> None:
    """Write all pictures of the split, in the order of its index, to one .npy file."""
    view = View(only="image", image_size_px=size_px)
    loader = Loader(
        shards,
        split,
        batch_size=64,
        rank=0,  # one process makes them for all
        world_size=1,
        workers=workers,
        shuffle=False,
        view=view,
    )
    if loader.state_dict()["dataset"] != features.dataset:
        raise ShardError(f"{shards} was packed again since the features were read; start anew")
    shape = (len(features), size_px, size_px, 3)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    done = 0
    for batch in loader:
        array[done : done + len(batch)] = batch.image
        done += len(batch)
    array.flush()
