"""What AVStyle learns from: pictures x, and, drawn apart from them, pictures y with their sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from avdata.audio.spec import AVSTYLE
from avdata.errors import ShardError
from avdata.shards.folder import open_folder, read_dataset
from avdata.shards.index import read_split
from avdata.shards.views import View
from stages.engine.batches import Batches, HeldOut, TensorBatch
from stages.engine.data import Look

if TYPE_CHECKING:
    from stages.engine.run import Run

LOAD_SHARE = 286 / 256  # of the side that is cropped from, as published
HALVES = (0.5, 0.5, 0.5)  # of the normalisation to [-1, 1]


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A micro-batch of each; pictures float32 [B, 3, S, S] in [-1, 1], sound [B, 48000]."""

    content: TensorBatch
    pair: TensorBatch

    def __len__(self) -> int:
        return len(self.pair)

    @property
    def keys(self) -> list[str]:
        """Those of both, for messages."""
        return [*self.content.keys, *self.pair.keys]


class UnpairedData:
    """Training and held-out batches of one rank, opened as the settings say.

    In training: a frame of the clip by chance, squashed to load_px (286/256 of the side), cropped
    and mirrored by chance; 3 s of the sound from anywhere. Held out: the best frame whole, the
    first 3 s. Sound that is shorter starts over. Raises ShardError if no clip of the pairs has any.
    """

    def __init__(
        self, run: Run[Any], *, contents: str | None, side_px: int, load_px: int | None
    ) -> None:
        self.run, self.contents_folder = run, contents
        plain = View(
            image_size_px=side_px,
            audio_s=AVSTYLE.n_samples / AVSTYLE.sample_rate_hz,
            short_audio="tile",
        )
        self.plain = plain
        varied = replace(
            plain,
            load_size_px=load_px or round(side_px * LOAD_SHARE),
            flip=True,
            frame="random",
            audio_start="random",
        )
        self.contents = run.batches(shards=contents, name="contents", **pictures(varied))
        self.pairs = run.batches(name="pairs", **pairs(varied))
        require_sound(run.shards)

    @property
    def longer(self) -> Batches[Any, TensorBatch]:
        """The one whose epoch is longer: an epoch of the training shows max(|A|, |B|) clips."""
        return max(self.contents, self.pairs, key=len)

    def __iter__(self) -> Iterator[Unpaired]:
        return (Unpaired(x, y) for x, y in zip(self.contents, self.pairs, strict=False))

    def held_out(self, split: str) -> HeldOutUnpaired:
        """Return one pass over a split of both folders, as long as the shorter one."""
        return HeldOutUnpaired(
            self.run.held_out(split, shards=self.contents_folder, **pictures(self.plain)),
            self.run.held_out(split, **pairs(self.plain)),
        )


@dataclass(frozen=True, slots=True)
class HeldOutUnpaired:
    """Always the same batches; each picture stands beside the sound of the clip before it."""

    contents: HeldOut
    pairs: HeldOut

    def __iter__(self) -> Iterator[Unpaired]:
        for content, pair in zip(self.contents, self.pairs, strict=False):
            n = min(len(content), len(pair))
            others = [*range(1, n), 0]  # the folders may be one: no picture with its own sound
            yield Unpaired(chosen(content, others), chosen(pair, range(n)))


def require_sound(folder: str, split: str = "train") -> None:
    """Raise ShardError if all clips of a split are of videos without sound."""
    store = open_folder(folder)
    lengths = read_split(store, split, read_dataset(store), ["n_samples"]).column("n_samples")
    if not any(lengths.to_pylist()):
        raise ShardError(
            f"not one of the {len(lengths)} clips of {split} in {folder} has sound, and styles are "
            "learnt from it; give stages.train_avstyle.train.shards a folder of videos with sound "
            "(those without may be its content_shards)"
        )


def chosen(batch: TensorBatch, rows: range | list[int]) -> TensorBatch:
    """Return these samples of a batch of one frame each."""
    places = list(rows)
    return TensorBatch(
        keys=[batch.keys[row] for row in places],
        labels=[batch.labels[row] for row in places],
        image=batch.image[places],
        audio=batch.audio[places],
        audio_samples=batch.audio_samples[places],
    )


def pictures(view: View) -> Look:
    """Return how contents are seen: pictures alone, in [-1, 1]."""
    return {"view": replace(view, only="image"), "mean": HALVES, "std": HALVES}


def pairs(view: View) -> Look:
    """Return how pairs are seen and heard."""
    return {"view": view, "audio": AVSTYLE, "mean": HALVES, "std": HALVES}
