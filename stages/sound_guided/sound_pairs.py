"""Sounds with the features of their text, their picture, and a picture of another of their kind.

No frozen network runs in a step: what texts and pictures come to was computed once. All that is
drawn here depends on seed, epoch and clip alone, so it is the same on any number of GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avdata.audio.spec import AudioSpec
from avdata.errors import ShardError
from avdata.seeding import rng_for
from avdata.strict import setting
from stages.engine.batches import Batches
from stages.nn.encoder import Encoder
from stages.pairs.clips import (
    Clips,
    FrameChoice,
    HeldOutPairs,
    PairReader,
    Pairs,
    PairSource,
)
from stages.pairs.data import read_split, require_batches
from stages.pairs.features import FOLDER, FeatureCache
from stages.pairs.samples import every_frame_of
from stages.pairs.texts import TextTable, text_table
from stages.sound_guided.texts import TextSettings, label_texts, said_otherwise, without_synonyms
from stages.sound_guided.weak_pairs import WeakPairs

if TYPE_CHECKING:
    from stages.engine.run import Run

SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundSettings:
    """Which clips to train on, and with which of their frames."""

    frames: Literal["best", "picked"] = setting(
        "best", "Frames that go with a sound: the best match, or in each step any picked one."
    )
    held_out_share: float | None = setting(
        None, "Share of train's source videos that is held out instead; null: the val split."
    )
    val_batch_size: int = setting(
        64, "Clips of a held-out batch, over all GPUs: contrastive losses depend on it."
    )

    def __post_init__(self) -> None:
        if self.val_batch_size < 2:
            raise ValueError("val_batch_size must be at least 2: InfoNCE of one pair is always 0")
        if self.held_out_share is not None and not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share must lie in (0, 1), got {self.held_out_share}")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Some clips, and what was drawn for them: rows of the tables of features."""

    pairs: Pairs
    text_rows: NDArray[np.int64]  # [B]
    weak_rows: NDArray[np.int64]  # [B] the frame of another clip that has a label in common; or [0]
    labels: NDArray[np.float32]  # [B, L] 1 for the labels of a clip

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, slots=True)
class SoundBatch:
    """Sounds, and features of unit length, on the device."""

    keys: list[str]
    sound: Tensor  # [B, n_samples] int16
    text: Tensor  # [B, D]
    image: Tensor  # [B, D]; [0, D] where no term looks at pictures
    weak: Tensor  # [B, D], or [0, D]
    labels: Tensor  # [B, L]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class SoundReader:
    """Reads sounds, and draws a label, one of its texts, and a weakly paired frame for each.

    texts: rows of the table of texts by label, the one as it is first. numbers: of all labels.
    """

    pairs: PairReader
    weak: WeakPairs
    texts: Mapping[str, Sequence[int]]
    numbers: Mapping[str, int]

    @property
    def clips(self) -> Clips:
        return self.pairs.clips

    def __call__(self, rows: NDArray[np.int64], epoch: int | None) -> Drawn:
        """Return these clips; at None with the first label as it is, and always the same frame."""
        clips, text_rows = self.clips, np.empty(len(rows), np.int64)
        weak_rows: list[int] = []
        labels = np.zeros((len(rows), len(self.numbers)), np.float32)
        for place, row in enumerate(rows.tolist()):
            rng = rng_for(self.pairs.seed, f"text and weak pair {epoch}", clips.keys[row])
            own = clips.labels[row]
            partner = int(self.weak.draw([row], rng)[0])
            label, way, frame = (int(n) for n in rng.integers(2**32, size=3))
            if epoch is None:
                label = way = frame = 0
            texts = self.texts[own[label % len(own)]]
            text_rows[place] = texts[way % len(texts)]
            if shown := clips.frames[partner]:
                weak_rows.append(int(clips.first_frame[partner]) + frame % len(shown))
            labels[place, [self.numbers[name] for name in own]] = 1
        pairs = self.pairs(rows, epoch)
        return Drawn(pairs, text_rows, np.array(weak_rows, np.int64), labels)


class SoundData:
    """This rank's training and held-out batches.

    pictures: False for shards of sound alone. classes: the texts of all labels as they are [L, D],
    in the labels' order. Raises SettingsError if settings and shards disagree, and ShardError if
    there is not one batch.
    """

    def __init__(
        self,
        run: Run[Any],
        settings: SoundSettings,
        texts: TextSettings,
        encoder: Encoder,
        audio: AudioSpec,
        *,
        pictures: bool = True,
    ) -> None:
        self.run, self.settings, self.audio = run, settings, audio
        self._frames: FrameChoice = settings.frames if pictures else "none"
        train = run.settings.train
        whole = {"train": self._read("train")}
        if settings.held_out_share is None:
            whole["val"] = self._read("val")
        self.clips = {split: self._labelled(clips) for split, clips in whole.items()}
        if settings.held_out_share is not None:
            rest, held_out = self.clips["train"].divided(settings.held_out_share, run.seed)
            self.clips = {"train": rest, "val": held_out}
        require_batches(run, self.clips, settings.val_batch_size)
        self.labels = sorted(
            {n for clips in self.clips.values() for own in clips.labels for n in own}
        )
        plain = label_texts(self.labels, texts)
        if lacking := without_synonyms(plain, texts):
            run.note(lacking)
        ways = said_otherwise(plain, texts, run.seed)
        cache = FeatureCache(run.folder.parent / FOLDER, workers=train.workers)
        self.texts: TextTable = text_table(
            cache, (t for own in ways.values() for t in own), encoder
        )
        self._rows = {label: self.texts.rows(own).tolist() for label, own in ways.items()}
        nothing = np.empty((0, encoder.dim), np.float32)
        self.images = {
            split: cache.of(every_frame_of(clips), encoder).values if pictures else nothing
            for split, clips in whole.items()
        }
        # What is held out of train has its features among those of train.
        self.images.setdefault("val", self.images["train"])
        first = self.texts.rows(own[0] for own in plain.values())
        self.classes = torch.tensor(self.texts.features.values[first], device=run.device)

    def batches(self) -> Batches[Drawn, SoundBatch]:
        """Return endless training batches; their position goes into checkpoints."""
        run, train = self.run, self.run.settings.train
        source = PairSource(
            self._reader("train"),
            batch_size=train.batch_size // run.world_size,
            seed=run.seed,
            rank=run.rank,
            world_size=run.world_size,
            workers=train.workers,
        )
        return run.state("batches", Batches(source, partial(self._on_device, "train")))

    def held_out(self) -> Iterator[SoundBatch]:
        """Yield whole held-out batches, always the same."""
        drawn = HeldOutPairs(
            self._reader("val"),
            batch_size=self.settings.val_batch_size // self.run.world_size,
            rank=self.run.rank,
            world_size=self.run.world_size,
            workers=self.run.settings.train.workers,
        )
        return map(partial(self._on_device, "val"), drawn)

    def _read(self, split: str) -> Clips:
        otherwise = f", or set stages.{self.run.name}.sample_rate_hz to theirs"
        return read_split(self.run, split, self._frames, self.audio, otherwise=otherwise)

    def _labelled(self, clips: Clips) -> Clips:
        """Return the clips that have labels; which have none is said."""
        kept = clips.where(bool(own) for own in clips.labels)
        if not len(kept):
            raise ShardError(
                f"no clip of {clips.split} in {self.run.shards} has a label, and so none has a "
                "text; give labels in the manifest"
            )
        if len(kept) < len(clips):
            self.run.note(
                f"{len(clips) - len(kept)} clips of {clips.split} have no label: left out"
            )
        return kept

    def _reader(self, split: str) -> SoundReader:
        clips = self.clips[split]
        weak = WeakPairs(clips.labels)
        if weak.alone and split == "train":
            self.run.note(
                f"{weak.alone} clips share no label with another: their own picture is their "
                "weakly paired one"
            )
        numbers = {label: number for number, label in enumerate(self.labels)}
        fill: Literal["tile", "pad"] = "tile" if self.audio.fill == "tile" else "pad"
        pairs = PairReader(clips, self.audio.n_samples, self.run.seed, short_audio=fill)
        return SoundReader(pairs, weak, self._rows, numbers)

    def _on_device(self, split: str, drawn: Drawn) -> SoundBatch:
        images, texts = self.images[split], self.texts.features.values
        host = [
            torch.from_numpy(array)
            for array in (
                drawn.pairs.sound,
                texts[drawn.text_rows],
                images[drawn.pairs.frame_rows],
                images[drawn.weak_rows],
                drawn.labels,
            )
        ]
        if self.run.device.type == "cuda":  # pinned, the copy runs beside the computation
            host = [tensor.pin_memory() for tensor in host]
        sent = (tensor.to(self.run.device, non_blocking=True) for tensor in host)
        return SoundBatch(drawn.pairs.keys, *sent)
