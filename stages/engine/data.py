"""A trainer's batches, opened as its settings say and held against what the shards hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError, ShardError
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from avdata.loader import Batch, Loader
from avdata.seeding import keyed_hash
from avdata.shards.folder import open_folder, read_dataset
from avdata.shards.sampling import Uneven
from avdata.shards.views import View
from stages.engine.batches import Batches, HeldOut, TensorBatch, Triple, to_tensors
from stages.engine.rows import RowSource
from stages.engine.settings import TrainSettings


class Look(TypedDict, total=False):
    """How clips become tensors.

    view: crop of the picture and stretch of the sound, or one of them alone; default: the whole
    of both.
    audio: the front-end that will hear it; its sample rate is held against the shards'.
    mean, std: of the normalisation (x / 255 - mean) / std; default: ImageNet's.
    """

    view: View
    audio: AudioSpec
    mean: Triple
    std: Triple


@dataclass(frozen=True, slots=True)
class Data:
    """Opens splits and row numbers for one rank.

    Its methods raise SettingsError if sample rate or picture size disagree with the shards, and
    ShardError if a split is empty or has not one batch.
    """

    shards: str
    train: TrainSettings
    seed: int
    rank: int
    world_size: int
    device: torch.device

    @property
    def micro_batch(self) -> int:
        """Samples that go through the model at once on this rank."""
        return self.train.batch_size // (self.world_size * self.train.accumulate)

    def batches(
        self, split: str, *, shards: str | None, name: str | None, **look: Unpack[Look]
    ) -> Batches[Batch, TensorBatch]:
        """Return endless micro-batches of a split, shuffled anew in each epoch.

        shards: another folder than that of the settings. name: keys the order; None: the seed's.
        """
        seed = self.seed if name is None else keyed_hash(self.seed, "batches", name)
        folder = shards or self.shards
        loader = self._open(folder, split, self.micro_batch, True, "drop", True, look, seed)
        return Batches(loader, lambda b: self._tensors(b, look), self.train.accumulate)

    def held_out(
        self,
        split: str,
        *,
        shards: str | None,
        batch_size: int | None,
        drop_last: bool,
        **look: Unpack[Look],
    ) -> HeldOut:
        """Return one pass over a split in its own order."""
        # The ranks of a sharded model go through it together: none may have a batch more.
        whole: Uneven = "repeat" if self.train.strategy == "fsdp" else "keep"
        loader = self._open(
            shards or self.shards,
            split,
            batch_size or self.micro_batch,
            False,
            "drop" if drop_last else whole,
            drop_last,
            look,
            self.seed,
        )
        return HeldOut(loader, lambda b: self._tensors(b, look))

    def rows(self, n: int, name: str, of: str = "") -> Batches[NDArray[np.int64], Tensor]:
        """Return endless micro-batches of row numbers below `n`, in an order that its name keys.

        of: name of what they are.
        """
        if n < self.train.batch_size:
            raise SettingsError(
                f"{n} rows are fewer than one batch of {self.train.batch_size}; lower "
                "train.batch_size, or use more clips"
            )
        source = RowSource(
            n,
            batch_size=self.micro_batch,
            seed=keyed_hash(self.seed, "rows", name),
            rank=self.rank,
            world_size=self.world_size,
            of=of,
        )
        return Batches(source, self._row_numbers, self.train.accumulate)

    def _row_numbers(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(rows).to(self.device)

    def _tensors(self, batch: Batch, look: Look) -> TensorBatch:
        mean, std = look.get("mean", IMAGENET_MEAN), look.get("std", IMAGENET_STD)
        return to_tensors(batch, self.device, mean, std)

    def _open(
        self,
        folder: str,
        split: str,
        batch_size: int,
        shuffle: bool,
        uneven: Uneven,
        drop_last: bool,
        look: Look,
        seed: int,
    ) -> Loader:
        loader = Loader(
            folder,
            split,
            batch_size=batch_size,
            seed=seed,
            rank=self.rank,
            world_size=self.world_size,
            workers=self.train.workers,
            shuffle=shuffle,
            uneven=uneven,
            drop_last=drop_last,
            view=look.get("view"),
        )
        require_rate(loader, look.get("audio"), folder)
        require_size(read_dataset(open_folder(folder)), loader.view, folder)
        if drop_last and len(loader) < (self.train.accumulate if shuffle else 1):
            size = self.train.batch_size if shuffle else batch_size * self.world_size
            raise ShardError(
                f"split {split} in {folder} has fewer clips than one batch of {size}; lower "
                "batch_size or pack more clips"
            )
        return loader


def require_rate(loader: Loader, audio: AudioSpec | None, folder: str) -> None:
    """Raise SettingsError if the front-end hears at another rate than the shards'."""
    if audio is not None and audio.sample_rate_hz != loader.sample_rate_hz:
        raise SettingsError(
            f"the front-end {audio.name} hears at {audio.sample_rate_hz} Hz, the shards in "
            f"{folder} hold {loader.sample_rate_hz} Hz; pack them again with --set "
            f"steps.trim.sample_rate_hz={audio.sample_rate_hz}"
        )


def require_size(dataset: dict[str, Any], view: View, folder: str) -> None:
    """Raise SettingsError rather than blow up stored frames, which nothing would tell later."""
    sides = [side for side in (dataset["width_px"], dataset["height_px"]) if side is not None]
    wanted_px = view.load_size_px or view.image_size_px
    if wanted_px is not None and wanted_px > min(sides, default=2**31):
        raise SettingsError(
            f"pictures of {wanted_px} px are asked for, the shards in {folder} hold "
            f"{' x '.join(map(str, sides))} px; ask for smaller ones, or pack again with larger "
            "steps.trim.width_px and height_px"
        )
