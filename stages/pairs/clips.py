"""Sounds and the pictures they belong to, by row: what training on frozen image features reads.

    clips = read_clips(run.shards, "train", frames="picked")
    source = PairSource(PairReader(clips, n_samples=160_000, seed=0), batch_size=64, seed=0)
    for pairs in source:
        pairs.sound, features[pairs.frame_rows]

Beside avdata.loader: some clips of a split instead of all, several frames per clip, and pictures
only if they are asked for, so that a step on cached features reads and decodes sound alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from avdata.errors import ClipError, SettingsError, ShardError
from avdata.seeding import keyed_fraction, rng_for
from avdata.shards.ahead import ahead
from avdata.shards.folder import ByteRange, open_folder, read_dataset, read_ranges
from avdata.shards.index import read_index
from avdata.shards.sampling import rank_batches
from avdata.shards.views import View, view_audio, view_image
from avdata.store import Store
from avdata.strict import digest
from stages.engine.rows import RowSource

T = TypeVar("T")
Read = TypeVar("Read")
Read_co = TypeVar("Read_co", covariant=True)
FrameChoice = Literal["best", "picked", "mid", "none"]
COLUMNS = (
    *("key", "labels", "source_id", "shard", "sample_rate_hz", "n_samples", "jpg_offset"),
    *("jpg_bytes", "audio_offset", "audio_bytes", "frames"),
)


class NoClipsError(ShardError):
    """The split that is asked for is empty."""


@dataclass(frozen=True, slots=True)
class Clips:
    """Some clips of a split: where their sound lies, and the frames that go with it."""

    store: Store
    dataset: str  # digest of the shards
    split: str  # several are joined by "+"
    frame_choice: FrameChoice
    sample_rate_hz: int
    keys: list[str]
    labels: list[list[str]]
    sources: list[str]  # the video of each clip
    sounds: list[ByteRange]
    frames: list[list[ByteRange]]  # of each clip, one or more, best first; none if not asked for
    first_frame: NDArray[np.int64]  # [N] where each clip's frames begin among those of the split

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, kept: Iterable[bool]) -> Clips:
        """Return the clips marked by `kept`; frames keep their numbers."""
        return self.chosen([row for row, keep in enumerate(kept) if keep])

    def chosen(self, rows: Sequence[int]) -> Clips:
        """Return the clips of these rows, in this order, repeated where a row is."""
        return replace(
            self,
            keys=[self.keys[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            sources=[self.sources[row] for row in rows],
            sounds=[self.sounds[row] for row in rows],
            frames=[self.frames[row] for row in rows],
            first_frame=self.first_frame[list(rows)],
        )

    def decoded(self, key: str, decode: Callable[..., T], *arguments: Any) -> T:
        """Return what `decode` makes of something of the clip `key`; of ClipErrors, ShardErrors."""
        try:
            return decode(*arguments)
        except ClipError as error:
            raise ShardError(
                f"cannot decode {key}: {error.detail}; `avdata verify {self.store.root}` tells "
                "what else is damaged"
            ) from None

    def with_labels(self, labels: Collection[str]) -> Clips:
        """Return the clips that bear one of `labels`."""
        return self.where(not set(labels).isdisjoint(own) for own in self.labels)

    def divided(self, share: float, seed: int) -> tuple[Clips, Clips]:
        """Return the rest, and the clips of about `share` of the source videos, held out."""
        out = [keyed_fraction(seed, "held out", source) < share for source in self.sources]
        return self.where(not o for o in out), self.where(out)


def read_clips(folder: str, split: str | Sequence[str], *, frames: FrameChoice = "best") -> Clips:
    """Return the clips of a split, or of several as one.

    frames: the best one; all that were picked; the one in the middle of the clip, for which the
    shards must hold every candidate; or none, for sound alone. Raises ShardError for a split
    without clips or pictures, and SettingsError if the shards do not hold these frames.
    """
    splits = [split] if isinstance(split, str) else list(split)
    store = open_folder(folder)
    dataset = read_dataset(store)
    stored = "all" if frames == "mid" else "picked"
    if frames in ("picked", "mid") and dataset["settings"]["frames"] != stored:
        raise SettingsError(
            f"the shards in {folder} hold {dataset['settings']['frames']} frames, but "
            f"frames={frames} needs the {stored} ones; pack them again with --set "
            f"steps.shard.frames={stored}"
        )
    counts = {name: facts["clips"] for name, facts in dataset["splits"].items()}
    if empty := [name for name in splits if not counts.get(name)]:
        raise NoClipsError(f"{store.root} has no clips in split {empty[0]!r}; it has {counts}")
    rows = read_index(store, dataset, COLUMNS, [("split", "in", splits)])
    split = "+".join(splits)
    if (without := rows.column("jpg_offset").null_count) and frames != "none":
        raise ShardError(
            f"{without} clips of {split} have no picture; pack again with a scorer that picks one"
        )
    rates_hz = sorted(set(rows.column("sample_rate_hz").to_pylist()))
    if len(rates_hz) > 1:
        raise ShardError(f"the clips of {split} differ in sample rate: {rates_hz} Hz")
    clips = rows.to_pylist()
    chosen = [_frames(clip, frames) for clip in clips]
    return Clips(
        store=store,
        dataset=dataset["digest"],
        split=split,
        frame_choice=frames,
        sample_rate_hz=rates_hz[0],
        keys=[clip["key"] for clip in clips],
        labels=[clip["labels"] for clip in clips],
        sources=[clip["source_id"] for clip in clips],
        sounds=[ByteRange(c["shard"], c["audio_offset"], c["audio_bytes"]) for c in clips],
        frames=chosen,
        first_frame=np.cumsum([0, *map(len, chosen[:-1])], dtype=np.int64),
    )


def _frames(clip: Mapping[str, Any], choice: FrameChoice) -> list[ByteRange]:
    if choice == "none":
        return []
    if choice == "best":
        return [ByteRange(clip["shard"], clip["jpg_offset"], clip["jpg_bytes"])]
    stored = clip["frames"]
    if choice == "mid":
        middle_s = clip["n_samples"] / clip["sample_rate_hz"] / 2
        stored = [min(stored, key=lambda frame: abs(frame["t_s"] - middle_s))]
    return [ByteRange(clip["shard"], frame["offset"], frame["bytes"]) for frame in stored]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Some clips with one frame each."""

    keys: list[str]
    sound: NDArray[np.int16]  # [B, n_samples], mono; int / 32768 lies in [-1, 1)
    frame_rows: NDArray[np.int64]  # [B], each frame's number among those of the split; or [0]
    image: NDArray[np.uint8] | None  # [B, side, side, 3], if pictures are asked for

    def __len__(self) -> int:
        return len(self.keys)


class Reader(Protocol[Read_co]):
    """Reads batches of some clips."""

    @property
    def clips(self) -> Clips: ...

    def __call__(self, rows: NDArray[np.int64], epoch: int | None) -> Read_co:
        """Return the clips `rows`, as they come in an epoch, or at None always the same."""


@dataclass(frozen=True, slots=True)
class PairReader:
    """Reads and decodes batches of sounds of `n_samples`.

    view: of the pictures, with or without chance; None: they are not read. short_audio: shorter
    sounds start over, or end in silence.
    """

    clips: Clips
    n_samples: int
    seed: int
    view: View | None = None
    short_audio: Literal["tile", "pad"] = "tile"

    def __call__(self, rows: NDArray[np.int64], epoch: int | None) -> Pairs:
        """Return the clips `rows`: with any of their frames in an `epoch`, with the first at None.

        Chance depends on nothing but seed, epoch and clip. Raises ShardError for what cannot be
        read.
        """
        clips, numbers = self.clips, rows.tolist()
        keys = [clips.keys[row] for row in numbers]
        rngs = [rng_for(self.seed, f"pair {epoch}", key) for key in keys]
        places: list[int] = []
        if clips.frame_choice != "none":
            counts = [1 if epoch is None else len(clips.frames[row]) for row in numbers]
            places = [int(rng.integers(n)) for rng, n in zip(rngs, counts, strict=True)]
        sounds = read_ranges(clips.store, [clips.sounds[row] for row in numbers])
        heard = View(short_audio=self.short_audio)
        sound = [
            clips.decoded(key, view_audio, data, self.n_samples, heard, rng)[0]
            for key, data, rng in zip(keys, sounds, rngs, strict=True)
        ]
        image = None
        if self.view is not None:
            frames = [clips.frames[row][at] for row, at in zip(numbers, places, strict=True)]
            pictures = read_ranges(clips.store, frames)
            image = np.stack(
                [
                    clips.decoded(key, view_image, data, self.view, rng)
                    for key, data, rng in zip(keys, pictures, rngs, strict=True)
                ]
            )
        frame_rows = clips.first_frame[rows[: len(places)]] + np.array(places, np.int64)
        return Pairs(keys, np.stack(sound), frame_rows, image)


class PairSource(Generic[Read]):
    """Epochs of a rank's batches, read ahead by threads; a `Source` for `Batches`."""

    def __init__(
        self,
        read: Reader[Read],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 2,
    ) -> None:
        self.read, self.workers, self.epoch = read, workers, 0
        clips = read.clips
        self.order = RowSource(
            len(clips),
            batch_size=batch_size,
            seed=seed,
            rank=rank,
            world_size=world_size,
            of=digest(clips.dataset, clips.keys),
        )
        self._position = self.order.state_dict()

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Read]:
        epoch = self.epoch
        jobs = ((self.order.state_dict(), rows) for rows in self.order)
        read_ahead = ahead(jobs, lambda job: (job[0], self.read(job[1], epoch)), self.workers)
        for position, pairs in read_ahead:
            self._position = position  # what is read ahead does not count as used
            yield pairs

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; naming the epoch that was resumed leaves it where it is."""
        self.epoch = epoch
        self.order.set_epoch(epoch)
        self._position = self.order.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last batch that was handed out."""
        return dict(self._position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position; raises ShardError if it is over other clips."""
        self.order.load_state_dict(state)
        self._position, self.epoch = dict(state), state["epoch"]


class HeldOutPairs(Generic[Read]):
    """One pass in the order of the shards, whole batches only, the same number on each rank.

    What a contrastive loss says depends on the size of its batches, so none may be smaller.
    """

    def __init__(
        self, read: Reader[Read], *, batch_size: int, rank: int, world_size: int, workers: int
    ) -> None:
        self.read, self.workers = read, workers
        self.batches = rank_batches(
            np.arange(len(read.clips) // (batch_size * world_size) * batch_size * world_size),
            taken=0,
            batch_size=batch_size,
            rank=rank,
            world_size=world_size,
            uneven="drop",
            drop_last=True,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Read]:
        return ahead(self.batches, lambda rows: self.read(rows, None), self.workers)
