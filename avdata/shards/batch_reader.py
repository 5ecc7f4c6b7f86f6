"""Any clips of a split, read and decoded as one batch: what a loader's threads do."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from avdata.errors import ClipError, Reason, ShardError
from avdata.seeding import rng_for
from avdata.shards.batch import Batch
from avdata.shards.folder import ByteRange, read_ranges
from avdata.shards.index import read_split
from avdata.shards.views import View, choose_frames, view_audio, view_image
from avdata.store import Store

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

BadSamples = Literal["raise", "skip"]
"""What to do with a sample that cannot be decoded, or, where that is checked, was changed.

raise: a ShardError ends the epoch. skip: it is left out of its batch, which is smaller by it.
"""
COLUMNS = ("key", "shard", "labels")


class _Member(NamedTuple):
    """A clip's picture or sound: where it lies, and the CRC-32 of its bytes; None: not checked."""

    place: ByteRange
    crc32: int | None


class BatchReader:
    """One split of a folder of shards; `read` may be called by many threads.

    The arguments are a Loader's. Raises ShardError if the split is not there, or its clips differ
    in what must be the same throughout a batch.
    """

    def __init__(
        self,
        store: Store,
        dataset: Mapping[str, Any],
        split: str,
        view: View,
        *,
        seed: int,
        bad_samples: BadSamples,
        check: bool,
    ) -> None:
        self.store, self.split, self.view, self.seed = store, split, view, seed
        self.bad_samples, self.check = bad_samples, check
        self.clips = read_split(store, split, dataset, _columns(view, check))
        if view.sees and (without := self.clips.column("jpg_offset").null_count):
            raise ShardError(
                f"{without} clips of {split} have no picture; pack again with a scorer that picks "
                'one, or read only their sound: View(only="audio")'
            )
        self._numbers = {
            name: self.clips.column(name).to_numpy()
            for name in self.clips.column_names
            if name.startswith(("jpg_", "audio_"))
        }
        self._picture_shape: tuple[int, ...] = (0, 0, 3)
        if view.sees:
            advice = "give View(image_size_px=...)"
            sides_px = [
                self._uniform(side, advice) if view.image_size_px is None else view.image_size_px
                for side in ("height_px", "width_px")
            ]
            several = () if view.n_frames is None else (view.n_frames,)
            self._picture_shape = (*several, *sides_px, 3)
        self.sample_rate_hz = self.n_samples = 0
        if view.hears:
            self.sample_rate_hz = self._uniform("sample_rate_hz", "pack one rate per dataset")
            self.n_samples = int(self.clips.column("n_samples").to_numpy().max())
            if view.audio_s is not None:
                self.n_samples = max(1, round(view.audio_s * self.sample_rate_hz))

    def __len__(self) -> int:
        return int(self.clips.num_rows)

    def _uniform(self, column: str, advice: str) -> int:
        values = sorted(self.clips.column(column).unique().to_pylist())
        if len(values) != 1:
            raise ShardError(
                f"the clips of {self.split} differ in {column} ({values[0]} to {values[-1]}), but "
                f"a batch needs one: {advice}"
            )
        return int(values[0])

    def read(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Return these clips as they are seen in `epoch`."""
        clips = self.clips.take(rows)
        keys: list[str] = clips.column("key").to_pylist()
        rngs = [rng_for(self.seed, f"view {epoch}", key) for key in keys]
        chosen = self._chosen(clips, rngs)
        members = self._members(rows, clips, chosen)
        contents = iter(read_ranges(self.store, [m.place for own in members for m in own]))
        image = np.empty(
            (len(rows), *(self._picture_shape if self.view.sees else (0, 0, 3))), np.uint8
        )
        sound = np.empty((len(rows), self.n_samples), np.int16)
        heard = np.zeros(len(rows), np.int64)
        kept: list[int] = []
        skipped: dict[str, str] = {}
        for number, (key, own, rng) in enumerate(zip(keys, members, rngs, strict=True)):
            data = [next(contents) for _ in own]
            at = len(kept)
            try:
                _check(own, data)
                if self.view.sees:
                    image[at] = self._picture(data, rng)
                if self.view.hears:
                    sound[at], heard[at] = view_audio(data[-1], self.n_samples, self.view, rng)
            except ClipError as error:
                if self.bad_samples == "raise":
                    raise ShardError(
                        f"cannot decode {key} in {self.store.full(own[0].place.path)}: "
                        f"{error.detail}; `avdata verify {self.store.root}` tells what else is "
                        'damaged, bad_samples="skip" goes on without it'
                    ) from None
                skipped[key] = error.detail
            else:
                kept.append(number)
        labels: list[list[str]] = clips.column("labels").to_pylist()
        times_s = None
        if self.view.n_frames is not None and chosen is not None:
            times_s = np.array([[frame["t_s"] for frame in chosen[number]] for number in kept])
        n = len(kept)
        return Batch(
            [keys[number] for number in kept],
            [labels[number] for number in kept],
            image[:n],
            sound[:n],
            heard[:n],
            self.sample_rate_hz,
            times_s,
            skipped,
        )

    def _picture(self, data: Sequence[bytes], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a clip's picture, [h, w, 3], or its pictures, [n_frames, h, w, 3]."""
        pictures = [view_image(jpeg, self.view, rng) for jpeg in data[: self.view.n_frames or 1]]
        for picture in pictures:
            if picture.shape != self._picture_shape[-3:]:
                height, width = picture.shape[:2]
                raise ClipError(Reason.CORRUPT, f"a picture of {width}x{height}, against the index")
        return np.stack(pictures) if self.view.n_frames is not None else pictures[0]

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

    def _members(
        self,
        rows: NDArray[np.int64],
        clips: pa.Table,
        chosen: list[list[dict[str, Any]]] | None,
    ) -> list[list[_Member]]:
        """Return the pictures of each clip to be read, and its sound after them."""
        numbers = {name: column[rows].tolist() for name, column in self._numbers.items()}

        def member(kind: str, number: int, shard: str) -> _Member:
            place = (numbers[f"{kind}_{name}"][number] for name in ("offset", "bytes"))
            crc32 = numbers[f"{kind}_crc32"][number] if self.check else None
            return _Member(ByteRange(shard, *place), crc32)

        members = []
        for number, shard in enumerate(clips.column("shard").to_pylist()):
            own = []
            if chosen is not None:
                own += [
                    _Member(
                        ByteRange(shard, frame["offset"], frame["bytes"]),
                        frame["crc32"] if self.check else None,
                    )
                    for frame in chosen[number]
                ]
            elif self.view.sees:
                own.append(member("jpg", number, shard))
            if self.view.hears:
                own.append(member("audio", number, shard))
            members.append(own)
        return members


def _check(members: Sequence[_Member], data: Sequence[bytes]) -> None:
    for member, content in zip(members, data, strict=True):
        if member.crc32 is not None and zlib.crc32(content) != member.crc32:
            raise ClipError(Reason.CORRUPT, "its checksum is not that of the index")


def _columns(view: View, check: bool) -> list[str]:
    """Return the columns of the index that a view needs."""
    columns = [*COLUMNS]
    parts = ("offset", "bytes", "crc32") if check else ("offset", "bytes")
    if view.sees:
        columns += ["width_px", "height_px", *(f"jpg_{part}" for part in parts)]
        columns += ["frames"] if view.frame != "best" else []
    if view.hears:
        columns += ["sample_rate_hz", "n_samples", *(f"audio_{part}" for part in parts)]
    return columns
