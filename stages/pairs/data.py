"""Pairs of sounds and frozen image features: which clips, which frames, cached or live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError, ShardError
from avdata.shards.views import View
from avdata.strict import setting
from stages.engine.batches import Batches
from stages.engine.settings import bounded
from stages.image_encoder.frozen import FrozenEncoder
from stages.pairs.clips import (
    Clips,
    FrameChoice,
    HeldOutPairs,
    NoClipsError,
    PairReader,
    Pairs,
    PairSource,
    read_clips,
)
from stages.pairs.features import FOLDER, cached_features

if TYPE_CHECKING:
    from stages.engine.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """Which clips to train on, and how their pictures are seen."""

    frames: Literal["best", "picked", "mid"] = setting(
        "best",
        "Frames that go with a sound: the best match; in each step any of the picked ones; the "
        "one in the middle of the clip, which is no selection (shards that hold all frames).",
    )
    classes_file: str | None = setting(
        None, "Labels to train on, one a line; null: all clips.", path=True
    )
    max_classes: int | None = setting(
        None, "Only the first so many labels of classes_file; without it, the most frequent ones."
    )
    held_out_share: float | None = setting(
        None, "Share of train's source videos that is held out instead; null: the val split."
    )
    val_batch_size: int = setting(
        64, "Clips of a held-out batch, over all GPUs: contrastive losses depend on it."
    )
    image_size_px: int = setting(256, "Side to which frames are squashed.")
    input_px: int | None = setting(
        224, "Side that the image encoder sees (bicubic); null: as squashed."
    )
    image_features: Literal["cached", "live"] = setting(
        "cached", "cached: computed once; live: in every step, which crop_area and flip need."
    )
    crop_area: tuple[float, ...] | None = setting(
        None, "Random crops of a share of the area in [low, high] (live)."
    )
    flip: bool = setting(False, "Mirror every second picture (live).")

    def __post_init__(self) -> None:
        bounded(self, "max_classes", "image_size_px", "input_px", above=0)
        if self.val_batch_size < 2:
            raise ValueError("val_batch_size must be at least 2: InfoNCE of one pair is always 0")
        if self.held_out_share is not None and not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie in (0, 1), got {self.held_out_share}")
        if self.image_features == "cached" and (self.crop_area or self.flip):
            raise ValueError("crop_area and flip need image_features: live; cached ones are fixed")
        if self.crop_area is not None and len(self.crop_area) != 2:
            raise ValueError(f"crop_area must be [low, high], got {list(self.crop_area)}")
        self.view(augmented=True)

    def view(self, *, augmented: bool) -> View:
        """Return how pictures are seen; raises ValueError for impossible crops."""
        area = self.crop_area if augmented else None
        return View(
            image_size_px=self.image_size_px,
            crop_area=(area[0], area[1]) if area else None,
            flip=self.flip and augmented,
        )


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Sounds and their image features, on the device."""

    keys: list[str]
    sound: Tensor  # [B, n_samples] int16
    z_v: Tensor  # [B, D] float32, raw

    def __len__(self) -> int:
        return len(self.keys)


class PairData:
    """This rank's training and held-out pairs.

    Raises SettingsError if settings and shards disagree, and ShardError if there is not one batch.
    """

    def __init__(
        self, run: Run[Any], settings: PairSettings, encoder: FrozenEncoder, audio: AudioSpec
    ) -> None:
        self.run, self.settings, self.encoder, self.audio = run, settings, encoder, audio
        whole = {"train": self._read("train")}
        if settings.held_out_share is None:
            whole["val"] = self._read("val")
        labels = chosen_labels(settings, whole["train"])
        self.clips = {k: c if labels is None else c.with_labels(labels) for k, c in whole.items()}
        if settings.held_out_share is not None:
            rest, held_out = self.clips["train"].divided(settings.held_out_share, run.seed)
            self.clips = {"train": rest, "val": held_out}
        self._require_batches()
        self.features: dict[str, NDArray[np.float32]] = {}
        if settings.image_features == "cached":
            self.features = {split: self._features(clips) for split, clips in whole.items()}
            # What is held out of train has its features among those of train.
            self.features.setdefault("val", self.features["train"])

    def batches(self) -> Batches[Pairs, PairBatch]:
        """Return endless training batches; their position goes into checkpoints."""
        run, train = self.run, self.run.settings.train
        source = PairSource(
            self._reader("train", augmented=True),
            batch_size=train.batch_size // (run.world_size * train.accumulate),
            seed=run.seed,
            rank=run.rank,
            world_size=run.world_size,
            workers=train.workers,
        )
        batches = Batches(source, partial(self._on_device, "train"), train.accumulate)
        return run.state("batches", batches)

    def held_out(self) -> Iterator[PairBatch]:
        """Yield whole held-out batches, always the same, each clip with its best frame."""
        pairs = HeldOutPairs(
            self._reader("val", augmented=False),
            batch_size=self.settings.val_batch_size // self.run.world_size,
            rank=self.run.rank,
            world_size=self.run.world_size,
            workers=self.run.settings.train.workers,
        )
        return map(partial(self._on_device, "val"), pairs)

    def _read(self, split: str) -> Clips:
        return read_split(self.run, split, self.settings.frames, self.audio)

    def _require_batches(self) -> None:
        require_batches(self.run, self.clips, self.settings.val_batch_size)

    def _features(self, clips: Clips) -> NDArray[np.float32]:
        run = self.run
        return cached_features(
            run.folder.parent / FOLDER,
            clips,
            self.encoder,
            image_size_px=self.settings.image_size_px,
            workers=run.settings.train.workers,
            device=run.device,
            console=run.console,
        ).values

    def _reader(self, split: str, *, augmented: bool) -> PairReader:
        view = None if self.features else self.settings.view(augmented=augmented)
        return PairReader(self.clips[split], self.audio.n_samples, self.run.seed, view)

    def _on_device(self, split: str, pairs: Pairs) -> PairBatch:
        sound = torch.from_numpy(pairs.sound)
        if pairs.image is not None:
            z_v = self.encoder.of_pixels(pairs.image, self.run.device)
        else:
            z_v = torch.from_numpy(self.features[split][pairs.frame_rows])
        if self.run.device.type == "cuda":  # pinned, the copy runs beside the computation
            sound, z_v = sound.pin_memory(), z_v if z_v.is_cuda else z_v.pin_memory()
        to = partial(Tensor.to, device=self.run.device, non_blocking=True)
        return PairBatch(pairs.keys, to(sound), to(z_v))


def read_split(
    run: Run[Any], split: str, frames: FrameChoice, audio: AudioSpec, *, otherwise: str = ""
) -> Clips:
    """Return the clips of a split of a training's shards, at the rate of its front-end.

    otherwise: what else may be done about another rate, for the message. Raises SettingsError for
    it, and ShardError for a split without clips.
    """
    try:
        clips = read_clips(run.shards, split, frames=frames)
    except NoClipsError as error:
        if split == "train":
            raise
        raise ShardError(
            f"{error}; stopping early needs clips that are not trained on: hold out some of "
            f"train's source videos by --set stages.{run.name}.data.held_out_share=0.1, or "
            "pack again with a share for val in steps.shard.splits"
        ) from None
    if clips.sample_rate_hz != audio.sample_rate_hz:
        raise SettingsError(
            f"the audio encoder hears at {audio.sample_rate_hz} Hz, the shards in {run.shards} "
            f"hold {clips.sample_rate_hz} Hz; pack them again with --set "
            f"steps.trim.sample_rate_hz={audio.sample_rate_hz}{otherwise}"
        )
    return clips


def require_batches(run: Run[Any], clips: Mapping[str, Clips], val_batch_size: int) -> None:
    """Raise ShardError unless train and val have a batch each, SettingsError for one that the
    processes cannot share."""
    sizes = {
        "train": ("train.batch_size", run.settings.train.batch_size),
        "val": ("data.val_batch_size", val_batch_size),
    }
    for split, (name, size) in sizes.items():
        if len(clips[split]) < size:
            raise ShardError(
                f"{len(clips[split])} clips are left for {split}, fewer than one batch of "
                f"{size}: lower stages.{run.name}.{name}, or use more clips"
            )
    if val_batch_size % run.world_size:
        raise SettingsError(
            f"val_batch_size {val_batch_size} must divide by {run.world_size} processes"
        )


def chosen_labels(settings: PairSettings, clips: Clips) -> list[str] | None:
    """Return the labels to train on, None for all; raises SettingsError if there are too few."""
    if settings.classes_file is not None:
        try:
            text = Path(settings.classes_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read classes_file: {error}") from None
        labels = [line.strip() for line in text.splitlines() if line.strip()]
    elif settings.max_classes is not None:
        counts = Counter(label for own in clips.labels for label in own)
        labels = sorted(counts, key=lambda label: (-counts[label], label))
    else:
        return None
    where = settings.classes_file or f"the {clips.split} split"
    if not labels or (settings.max_classes or 0) > len(labels):
        raise SettingsError(
            f"{where} has {len(labels)} labels, max_classes is {settings.max_classes}; lower it, "
            "or give another classes_file"
        )
    return labels[: settings.max_classes]
