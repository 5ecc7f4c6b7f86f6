"""Features of a split's pictures, computed once: frozen encoders leave the training step.

    encoder = load_image_encoder("runs/x/stages/train_image_encoder")
    clips = read_clips(run.shards, "train", frames="picked")
    folder = run.folder.parent / FOLDER
    features = cached_features(folder, clips, encoder, image_size_px=256, device=run.device)
    features.values[row]  # float32 [D], of a frame of the clip features.keys[row]

Rows are the frames of the clips, one or more of each, in the order in which `clips` has them.

    <folder>/<digest>.npy      [M, D]; complete if it is there
    <folder>/<digest>.parts/   what is done so far

The digest tells encoder, weights, shards, clips, choice of frames and how they are seen, so
whatever changes gets a place of its own. Under torch.distributed the ranks share the work; the
folder must be one that all of them see.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import distributed

from avdata.errors import WeightsError
from avdata.loader import ahead
from avdata.shards.folder import ByteRange, read_ranges
from avdata.shards.views import View, view_image
from avdata.store import Store
from avdata.strict import digest
from stages.engine.display import Display
from stages.image_encoder.frozen import Encoder
from stages.pairs.clips import Clips

VERSION = 2  # raise it when the same input gives other features
PART_ROWS = 4096  # what a killed computation loses at most, per rank
FOLDER = "features"  # beside the folders of the stages, which share it

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """The features of the frames of some clips, read from disk as they are used."""

    keys: list[str]  # [M], the clip of each row
    values: Floats  # [M, D], a memory map
    mirrored: Floats | None  # [M, D], of the frames flipped left to right
    digest: str  # of the values

    def __len__(self) -> int:
        return len(self.keys)


def cached_features(
    folder: Path,
    clips: Clips,
    encoder: Encoder,
    *,
    image_size_px: int,
    mirrored: bool = False,
    batch_size: int = 64,
    workers: int = 2,
    device: torch.device | str = "cpu",
    console: Console | None = None,
) -> Features:
    """Return the features of all frames of `clips`, computing what `folder` does not hold yet.

    image_size_px: side to which frames are squashed. mirrored: also of the flipped frames.
    console: shows how far the first rank is. Killed, the same call goes on where it was, also with
    other ranks. Raises ShardError for a frame that cannot be decoded, and WeightsError for features
    that are not finite.
    """
    own = zip(clips.keys, clips.frames, strict=True)
    rows = [(key, frame) for key, frames in own for frame in frames]
    where, view = torch.device(device), View(image_size_px=image_size_px)
    pictures = _Pictures(clips, rows, encoder, view, where, batch_size, workers)
    encoder.network.to(where).eval()

    def table(*, flip: bool) -> tuple[str, Floats]:
        name = features_digest(clips, encoder, image_size_px=image_size_px, mirrored=flip)
        title = f"features of {clips.split}{', mirrored' * flip}"
        compute = partial(pictures.features, flip=flip)
        return name, computed_once(folder, name, len(rows), compute, title=title, console=console)

    name, values = table(flip=False)
    return Features(
        keys=[key for key, _ in rows],
        values=values,
        mirrored=table(flip=True)[1] if mirrored else None,
        digest=name,
    )


def features_digest(
    clips: Clips, encoder: Encoder, *, image_size_px: int, mirrored: bool = False
) -> str:
    """Return the name under which these features are kept."""
    return digest(
        {
            "version": VERSION,
            "encoder": encoder.fingerprint(),
            "dataset": clips.dataset,
            "split": clips.split,
            "clips": digest(clips.keys),
            "frames": clips.frame_choice,
            "image_size_px": image_size_px,
            "mirrored": mirrored,
        }
    )


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Frames as an encoder sees them."""

    clips: Clips
    rows: list[tuple[str, ByteRange]]  # of each, the clip and where it lies
    encoder: Encoder
    view: View
    device: torch.device
    batch_size: int
    workers: int

    def features(self, part: range, *, flip: bool) -> Iterator[Floats]:
        """Yield the features [B, D] of these rows, batch by batch."""
        batches = pieces(part, self.batch_size)
        for images in ahead(batches, self._decode, self.workers):
            seen = images[:, :, ::-1].copy() if flip else images
            yield self.encoder.encode(seen, self.device).cpu().numpy()

    def _decode(self, batch: range) -> NDArray[np.uint8]:
        rows = self.rows[batch.start : batch.stop]
        found = read_ranges(self.clips.store, [frame for _, frame in rows])
        unused = np.random.default_rng(0)  # this view takes no chance
        return np.stack(
            [
                self.clips.decoded(key, view_image, data, self.view, unused)
                for (key, _), data in zip(rows, found, strict=True)
            ]
        )


def computed_once(
    folder: Path,
    name: str,
    n_rows: int,
    compute: Callable[[range], Iterator[Floats]],
    *,
    title: str,
    console: Console | None = None,
) -> Floats:
    """Return the table [n_rows, ...] of this name, a memory map; computed if it is not there.

    compute: yields what a range of rows holds, batch by batch. It is asked for parts of PART_ROWS,
    which the ranks share and which are kept until all are there. title: what is computed, to be
    shown. Raises WeightsError for values that are not finite.
    """
    store, parts = Store(str(folder)), Store(str(folder / f"{name}.parts"))
    ranges = pieces(range(n_rows), PART_ROWS)
    rank, world_size = _rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f".{name}.lock", rank):
        if not store.exists(f"{name}.npy"):
            missing = [part for part in ranges if not parts.exists(_file(part))]
            _barrier()  # all ranks divide the same list
            mine, on = missing[rank::world_size], console if rank == 0 else None
            display = Display(on or Console(quiet=True), title, 0, sum(map(len, mine)), samples=1)
            try:
                _compute(parts, mine, compute, display)
            finally:
                display.close()
            _barrier()
            if rank == 0:
                with store.writing(f"{name}.npy") as path:
                    _join(parts, ranges, path)
            _barrier()
        if rank == 0:
            shutil.rmtree(parts.root, ignore_errors=True)
    table: Floats = np.load(store.full(f"{name}.npy"), mmap_mode="r")
    return table


def pieces(rows: range, size: int) -> list[range]:
    """Return consecutive rows in pieces of `size`; the last may be shorter."""
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _compute(
    parts: Store,
    ranges: Sequence[range],
    compute: Callable[[range], Iterator[Floats]],
    display: Display,
) -> None:
    """Write these parts, each of which appears when it is complete."""
    done = 0
    for part in ranges:
        blocks = []
        for block in compute(part):
            if not np.isfinite(block).all():
                raise WeightsError(
                    f"the {display.title} are not finite: look for NaN in the weights of the "
                    "network that makes them"
                )
            blocks.append(block)
            done += len(block)
            display.show(done)
        with parts.writing(_file(part)) as path, path.open("wb") as file:
            np.save(file, np.concatenate(blocks))


def _file(part: range) -> str:
    return f"{part.start}-{part.stop}.npy"


def _join(parts: Store, ranges: Sequence[range], path: Path) -> None:
    """Write all parts one after the other into one file."""
    first = np.load(parts.full(_file(ranges[0])), mmap_mode="r")
    shape = (ranges[-1].stop, *first.shape[1:])
    table = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for part in ranges:
        table[part.start : part.stop] = np.load(parts.full(_file(part)), mmap_mode="r")
    table.flush()


@contextmanager
def _alone(path: Path, rank: int) -> Iterator[None]:
    """Keep another program off the same table: it waits, and then finds it made."""
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
