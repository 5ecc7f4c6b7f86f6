"""Features of every picture of a split, computed once: frozen encoders leave the training step.

    encoder = load_image_encoder("runs/x/stages/train_image_encoder")
    features = cached_features(
        run.folder.parent / "features", run.shards, "train", encoder,
        view=View(image_size_px=256), device=run.device,
    )
    features.values[row]  # float32 [D], of the clip features.keys[row]

Rows stand in the order of the shards' index, which is that of a `Loader` without shuffling.

    <folder>/<digest>/         features.npy  mirrored.npy  clips.json; complete if it is there
    <folder>/<digest>.parts/   what is done so far

The digest tells weights, encoder, shards, split and view, so whatever changes gets a place of its
own. Under torch.distributed the ranks share the work; the folder must be one that all of them see.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from avdata.loader import Loader
from avdata.shards import open_folder, read_dataset
from avdata.store import Store
from avdata.strict import digest
from avdata.views import View
from stages.common.batches import to_tensors
from stages.common.frozen_encoder import Encoder

VERSION = 1  # raise it when the same input gives other features
PART_ROWS = 4096  # what a killed computation loses at most, per rank

FEATURES, MIRRORED, CLIPS = "features.npy", "mirrored.npy", "clips.json"

Progress = Callable[[int, int], None]
"""Called with the number of pictures that are done, and of all, on this rank."""


@dataclass(frozen=True, slots=True)
class Features:
    """The features of a split, read from disk as they are used."""

    keys: list[str]
    labels: list[list[str]]
    values: NDArray[np.float32]  # [N, D], a memory map
    mirrored: NDArray[np.float32] | None  # [N, D], of the pictures flipped left to right
    digest: str

    def __len__(self) -> int:
        return len(self.keys)


def cached_features(
    folder: Path,
    shards: str | Path,
    split: str,
    encoder: Encoder,
    *,
    view: View,
    mirrored: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Features:
    """Return the features of a split's pictures, computing what `folder` does not hold yet.

    view: of the best frame, without chance; mirrored: also of the flipped pictures. Killed, the
    same call goes on where it was, also with other ranks. Raises ShardError as Loader does, and
    ValueError for another view and for features that are not finite.
    """
    if view.crop_area or view.flip or view.frame != "best":
        raise ValueError(
            f"features are computed once, of the best frame, so its view is without chance: {view}"
        )
    name = features_digest(shards, split, encoder, view=view, mirrored=mirrored)
    target = folder / name
    rank, world_size = _rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f".{name}.lock", rank):
        if not target.is_dir():
            parts = _Parts(target, shards, split, view, batch_size, workers)
            parts.compute(encoder, mirrored, torch.device(device), rank, world_size, progress)
            _barrier()
            if rank == 0:
                parts.join()
            _barrier()
    return _read(target)


def features_digest(
    shards: str | Path, split: str, encoder: Encoder, *, view: View, mirrored: bool = False
) -> str:
    """Return the name under which these features are kept."""
    return digest(
        {
            "version": VERSION,
            "encoder": encoder.fingerprint(),
            "dataset": read_dataset(open_folder(shards))["digest"],
            "split": split,
            "view": view,
            "mirrored": mirrored,
        }
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """The pieces of one table of features. Part p of P holds the rows p, p + P, p + 2 P, ..."""

    target: Path
    shards: str | Path
    split: str
    view: View
    batch_size: int
    workers: int

    @property
    def store(self) -> Store:
        return Store(f"{self.target}.parts")

    def compute(
        self,
        encoder: Encoder,
        mirrored: bool,
        device: torch.device,
        rank: int,
        world_size: int,
        progress: Progress | None,
    ) -> None:
        """Compute this rank's share of the parts that are not there yet."""
        count, n_clips = self._count(), self._clips()
        todo = [p for p in range(count) if not self.store.exists(f"{p}.json")][rank::world_size]
        done, total = 0, sum(len(range(p, n_clips, count)) for p in todo)
        encoder.network.to(device).eval()
        for part in todo:
            blocks: list[NDArray[np.float32]] = []
            clips: list[tuple[str, list[str]]] = []
            for batch in self._loader(part):
                given = to_tensors(batch, device, encoder.mean, encoder.std)
                blocks.append(encoder.features(given.image, mirrored).cpu().numpy())
                clips += zip(batch.keys, batch.labels, strict=True)
                done += len(batch)
                if progress:
                    progress(done, total)
            self._write(part, np.concatenate(blocks), clips)

    def _write(
        self, part: int, values: NDArray[np.float32], clips: list[tuple[str, list[str]]]
    ) -> None:
        if not np.isfinite(values).all():
            raise ValueError(
                f"features of {self.split} are not finite: look for NaN in the encoder's weights"
            )
        with self.store.writing(f"{part}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, values)
        # Written last: a part with its clips is complete.
        self.store.write_bytes(f"{part}.json", json.dumps(clips).encode())

    def join(self) -> None:
        """Make one table of all parts, and let it appear at once."""
        count = self._count()
        found = [json.loads(self.store.read_bytes(f"{p}.json")) for p in range(count)]
        clips: list[Any] = [None] * sum(map(len, found))
        beside = Path(self.store.full("joined"))
        beside.mkdir(exist_ok=True)
        tables: list[NDArray[np.float32]] = []
        for p in range(count):
            clips[p::count] = found[p]
            values = np.load(self.store.full(f"{p}.npy"), mmap_mode="r")  # [rows, V, D]
            _, n_views, dim = values.shape
            if not tables:
                tables = [
                    np.lib.format.open_memmap(beside / name, "w+", np.float32, (len(clips), dim))
                    for name in (FEATURES, MIRRORED)[:n_views]
                ]
            for number, table in enumerate(tables):
                table[p::count] = values[:, number]
        tables.clear()  # closes the maps, which writes them out
        (beside / CLIPS).write_text(json.dumps(clips), encoding="utf-8")
        beside.rename(self.target)
        shutil.rmtree(self.store.root)

    def _clips(self) -> int:
        splits = read_dataset(open_folder(self.shards))["splits"]
        n_clips: int = splits.get(self.split, {}).get("clips", 0)
        return n_clips

    def _count(self) -> int:
        """Return P, which depends on the split alone, so that a resume may have other ranks."""
        return max(1, math.ceil(self._clips() / PART_ROWS))  # of nothing, Loader tells

    def _loader(self, part: int) -> Loader:
        return Loader(
            self.shards,
            self.split,
            batch_size=self.batch_size,
            rank=part,
            world_size=self._count(),
            workers=self.workers,
            shuffle=False,
            uneven="keep",
            view=self.view,
        )


def _read(folder: Path) -> Features:
    clips = json.loads((folder / CLIPS).read_bytes())
    mirrored = folder / MIRRORED
    return Features(
        keys=[key for key, _ in clips],
        labels=[labels for _, labels in clips],
        values=np.load(folder / FEATURES, mmap_mode="r"),
        mirrored=np.load(mirrored, mmap_mode="r") if mirrored.exists() else None,
        digest=folder.name,
    )


@contextmanager
def _alone(path: Path, rank: int) -> Iterator[None]:
    """Keep another program off the same features: it waits, and then finds them made."""
    import filelock

    if rank == 0:
        with filelock.FileLock(path):
            _barrier()
            yield
    else:
        _barrier()
        yield


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _barrier() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
