"""From shards to batches: seeded, split over ranks, decoded by threads, resumable anywhere.

    loader = Loader("runs/x/shards", "train", batch_size=32)
    for batch in loader:  # one epoch, this process's share under torchrun
        batch.image  # uint8 [batch, height, width, 3]
        batch.audio  # int16 [batch, samples]

Needs neither torch nor a run; for torch's DataLoader there is avdata/torch_dataset.py. Members are
read by byte range, so an epoch is a true permutation of the split, no shuffle within a window.
Pictures and sound are handed over as integers, to be normalised on the device, which saves most of
the copying.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from avdata.errors import ClipError, Reason, ShardError
from avdata.seeding import rng_for
from avdata.shards.ahead import ahead
from avdata.shards.batch import Batch
from avdata.shards.folder import ByteRange, open_folder, read_dataset, read_ranges
from avdata.shards.index import read_split
from avdata.shards.ranks import data_worker, rank_and_world_size
from avdata.shards.sampling import Uneven, epoch_order, rank_batches
from avdata.shards.views import View, choose_frames, view_audio, view_image

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Batch", "Loader"]

COLUMNS = ("key", "shard", "labels")
IMAGE_MEMBER = ("jpg_offset", "jpg_bytes")
AUDIO_MEMBER = ("audio_offset", "audio_bytes")
CHECKSUMS = {"jpg": "jpg_crc32", "audio": "audio_crc32"}

BadSamples = Literal["raise", "skip"]

log = logging.getLogger(__name__)


class Loader:
    """One split's batches for one rank; iterate once per epoch.

    Rank and world size are those of torch's process group or of torchrun's environment, unless they
    are given; a process alone gets everything. In a worker process of torch's DataLoader, each
    worker gets its share of the rank's batches.

    Iterating starts the epoch from its beginning, or, after `load_state_dict`, where the state was
    taken; a finished epoch moves on to the next. Order and content of batches depend on the
    arguments, never on `workers`. At most `workers + prefetch` batches are held in memory, beside
    the one handed out.

    folder: of shards, or the run that made them; local or any fsspec URL.
    batch_size: per rank. uneven: see `sampling.Uneven`. workers: threads; 0 decodes in the caller.
    view: which crop and stretch, or the picture or the sound alone, see `View`; chance in it is
    keyed by seed, epoch and clip. Only sound can be read of clips that have no picture.
    bad_samples: "skip" leaves a sample that cannot be decoded out of its batch, which is then
    smaller, so that ranks stay in step; `skipped` names them, with the reason. check: compare every
    sample with its checksum in the index, so that one that decodes but was changed is bad too.

    Raises ShardError if the folder is incomplete, the split is not there, or its clips differ in
    what must be the same throughout a batch.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str = "train",
        *,
        batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int = 2,
        prefetch: int = 2,
        shuffle: bool = True,
        uneven: Uneven = "drop",
        drop_last: bool = False,
        view: View | None = None,
        bad_samples: BadSamples = "raise",
        check: bool = False,
    ) -> None:
        rank, world_size = rank_and_world_size(rank, world_size)
        if batch_size < 1 or workers < 0 or prefetch < 0 or not 0 <= rank < world_size:
            raise ValueError(
                f"need batch_size >= 1, workers >= 0, prefetch >= 0 and 0 <= rank < world_size, "
                f"got {batch_size}, {workers}, {prefetch} and {rank} of {world_size}"
            )
        self.view = view or View()
        self.split, self.seed, self.rank, self.world_size = split, seed, rank, world_size
        self.batch_size, self.uneven, self.drop_last = batch_size, uneven, drop_last
        self.workers, self.prefetch, self.shuffle = workers, prefetch, shuffle
        self.bad_samples, self.check = bad_samples, check
        self.skipped: dict[str, str] = {}  # key of a sample that was left out: why
        self._store = open_folder(folder)
        dataset = read_dataset(self._store)
        self._digest: str = dataset["digest"]
        self._clips = read_split(self._store, split, dataset, _columns(self.view, check=check))
        self._require_pictures()
        self._members = {
            name: self._clips.column(name).to_numpy()
            for name in (*IMAGE_MEMBER, *AUDIO_MEMBER, *CHECKSUMS.values())
            if name in self._clips.column_names
        }
        if self.view.sees and self.view.image_size_px is None:
            for side in ("width_px", "height_px"):
                self._uniform(side, "give View(image_size_px=...)")
        self.sample_rate_hz = self.n_samples = 0
        if self.view.hears:
            self.sample_rate_hz = self._uniform("sample_rate_hz", "pack one rate per dataset")
            self.n_samples = int(self._clips.column("n_samples").to_numpy().max())
            if self.view.audio_s is not None:
                self.n_samples = max(1, round(self.view.audio_s * self.sample_rate_hz))
        self._epoch, self._taken, self._resumed = 0, 0, False

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch on this rank."""
        return len(self._batches(np.arange(self._clips.num_rows), 0))

    def __iter__(self) -> Iterator[Batch]:
        if not self._resumed:
            self._taken = 0
        self._resumed = False
        epoch, start = self._epoch, self._taken
        order = epoch_order(self._clips.num_rows, self.seed, epoch, self.shuffle)
        worker, n_workers = data_worker()
        batches = ahead(
            self._batches(order, start)[worker::n_workers],
            lambda rows: self._load(rows, epoch),
            self.workers,
            self.prefetch,
        )
        for number, batch in enumerate(batches, start=1):
            # Counted before it is handed over: a state taken while it is in use includes it.
            taken = number * n_workers * self.batch_size * self.world_size
            self._taken = min(order.size, start + taken)
            yield batch
        self._epoch, self._taken = epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; naming the epoch that was resumed leaves it where it is."""
        if epoch != self._epoch:
            self._epoch, self._taken, self._resumed = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """Return where this rank stands: the batches handed out so far count as used.

        It is the same on all ranks at the same step, and may be loaded with another batch size or
        number of ranks: what is left of the epoch is then split anew.
        """
        return {**self._identity(), "epoch": self._epoch, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; raises ShardError if it is from other shards, split or order."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ShardError(
                    f"this loader has {name} {value!r}, the state was taken with "
                    f"{state.get(name)!r}; resume with the same, or start a new epoch"
                )
        self._epoch, self._taken, self._resumed = int(state["epoch"]), int(state["taken"]), True

    def _identity(self) -> dict[str, Any]:
        return {
            "dataset": self._digest,
            "split": self.split,
            "seed": self.seed,
            "shuffle": self.shuffle,
        }

    def _require_pictures(self) -> None:
        if self.view.sees and (without := self._clips.column("jpg_offset").null_count):
            raise ShardError(
                f"{without} clips of {self.split} have no picture; pack again with a scorer that "
                'picks one, or read only their sound: View(only="audio")'
            )

    def _uniform(self, column: str, advice: str) -> int:
        values = sorted(self._clips.column(column).unique().to_pylist())
        if len(values) != 1:
            raise ShardError(
                f"the clips of {self.split} differ in {column} ({values[0]} to {values[-1]}), but "
                f"a batch needs one: {advice}"
            )
        return int(values[0])

    def _batches(self, order: NDArray[np.int64], taken: int) -> list[NDArray[np.int64]]:
        return rank_batches(
            order,
            taken=taken,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            uneven=self.uneven,
            drop_last=self.drop_last,
        )

    def _load(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Read and decode one batch."""
        clips = self._clips.take(rows)
        keys: list[str] = clips.column("key").to_pylist()
        rngs = [rng_for(self.seed, f"view {epoch}", key) for key in keys]
        chosen = self._chosen(clips, rngs)
        members = self._ranges(rows, clips, chosen)
        per_clip = len(members) // len(rows)
        contents = read_ranges(self._store, members)
        image: NDArray[np.uint8] | None = None
        sound = np.empty((len(rows), self.n_samples), np.int16)
        heard = np.zeros(len(rows), np.int64)
        good: list[int] = []
        for number, (key, rng) in enumerate(zip(keys, rngs, strict=True)):
            own = contents[number * per_clip : (number + 1) * per_clip]
            try:
                if self.check:
                    self._compare(own, rows[number], None if chosen is None else chosen[number])
                if self.view.sees:
                    picture = self._picture(iter(own), rng)
                    if image is None:
                        image = np.empty((len(rows), *picture.shape), np.uint8)
                if self.view.hears:
                    sound[number], heard[number] = view_audio(
                        own[-1], self.n_samples, self.view, rng
                    )
            except ClipError as error:
                self._skip(key, clips.column("shard")[number].as_py(), error)
                continue
            if image is not None:
                image[number] = picture
            good.append(number)
        if not good:
            raise ShardError(
                f"not one of the {len(rows)} samples of a batch can be decoded, {keys[0]} first; "
                f"`avdata verify {self._store.root}` tells what is damaged"
            )
        if image is None:
            image = np.empty((len(rows), 0, 0, 3), np.uint8)
        labels: list[list[str]] = clips.column("labels").to_pylist()
        times_s = None
        if self.view.n_frames is not None and chosen is not None:
            times_s = np.array([[frame["t_s"] for frame in frames] for frames in chosen])
        whole = Batch(keys, labels, image, sound, heard, self.sample_rate_hz, times_s)
        return whole if len(good) == len(rows) else whole.of(good)

    def _skip(self, key: str, shard: str, error: ClipError) -> None:
        """Note a bad sample, or raise ShardError where none may be left out."""
        if self.bad_samples == "raise":
            raise ShardError(
                f"cannot decode {key} in {self._store.full(shard)}: {error.detail}; `avdata verify "
                f'{self._store.root}` tells what else is damaged, bad_samples="skip" goes on '
                "without it"
            ) from None
        if key not in self.skipped:
            log.warning("%s in %s is left out: %s", key, self._store.full(shard), error.detail)
        self.skipped[key] = error.detail

    def _compare(
        self, contents: Sequence[bytes], row: int, frames: Sequence[Mapping[str, Any]] | None
    ) -> None:
        """Raise ClipError if a member is not what was packed."""
        wanted: list[int] = []
        if frames is not None:
            wanted += [frame["crc32"] for frame in frames]
        elif self.view.sees:
            wanted.append(int(self._members[CHECKSUMS["jpg"]][row]))
        if self.view.hears:
            wanted.append(int(self._members[CHECKSUMS["audio"]][row]))
        for data, crc32 in zip(contents, wanted, strict=True):
            if zlib.crc32(data) != crc32:
                raise ClipError(Reason.CORRUPT, "its checksum is not that of the index")

    def _picture(self, contents: Iterator[bytes], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the next clip's picture, [h, w, 3], or its pictures, [n_frames, h, w, 3]."""
        if self.view.n_frames is None:
            return view_image(next(contents), self.view, rng)
        return np.stack(
            [view_image(next(contents), self.view, rng) for _ in range(self.view.n_frames)]
        )

    def _chosen(
        self, clips: pa.Table, rngs: Sequence[np.random.Generator]
    ) -> list[list[dict[str, Any]]] | None:
        """Return the frames to look at of each clip, as the index has them; None: its best."""
        if self.view.frame == "best" or not self.view.sees:
            return None
        chosen = []
        for stored, rng in zip(clips.column("frames").to_pylist(), rngs, strict=True):
            times_s = [frame["t_s"] for frame in stored]
            chosen.append([stored[place] for place in choose_frames(times_s, self.view, rng)])
        return chosen

    def _ranges(
        self,
        rows: NDArray[np.int64],
        clips: pa.Table,
        chosen: list[list[dict[str, Any]]] | None,
    ) -> list[ByteRange]:
        """Return where the pictures and the sound of each clip lie, one after the other."""
        place = {name: column[rows].tolist() for name, column in self._members.items()}
        ranges = []
        for number, shard in enumerate(clips.column("shard").to_pylist()):
            if chosen is not None:
                ranges += [ByteRange(shard, f["offset"], f["bytes"]) for f in chosen[number]]
            elif self.view.sees:
                ranges.append(ByteRange(shard, *(place[name][number] for name in IMAGE_MEMBER)))
            if self.view.hears:
                ranges.append(ByteRange(shard, *(place[name][number] for name in AUDIO_MEMBER)))
        return ranges


def _columns(view: View, *, check: bool) -> list[str]:
    """Return the columns of the index that a view needs."""
    columns = [*COLUMNS]
    if view.sees:
        columns += ["width_px", "height_px", *IMAGE_MEMBER]
        columns += ["frames"] if view.frame != "best" else []
    if view.hears:
        columns += ["sample_rate_hz", "n_samples", *AUDIO_MEMBER]
    if check:
        columns += [CHECKSUMS["jpg"]] * view.sees + [CHECKSUMS["audio"]] * view.hears
    return columns
