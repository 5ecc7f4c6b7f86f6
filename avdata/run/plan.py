"""From a manifest to parts: the units of work, of resuming and of a Dask task.

Clips of one URL always share a part, so that a source is fetched and decoded once. Where one part
ends and the next begins depends on the clips near the border alone: a row put on top of a manifest
changes one part, not all of them. Memory does not grow with the manifest.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from avdata.clip import Clip, Status
from avdata.errors import ManifestError, Reason
from avdata.run.sealed import read_sealed, write_sealed
from avdata.seeding import keyed_hash
from avdata.steps.base import by_source
from avdata.store import Store, is_remote, join, sha256_file
from avdata.strict import digest
from avdata.tables import write_clips

PLAN_PATH = "plan.json"
PLAN_VERSION = 2
READERS = 16
BUCKET_BYTES = 8 * 2**20  # of manifest text; a bucket's clips are held in memory at once
SPILL_CLIPS = 512
_VALUES = attrgetter(*Clip.__slots__)
PARTS_PER_SIZE = 32  # parts of n clips: at least 32 n of them
LARGEST_PART = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """Which parts there are, in order, and what step their clips have reached."""

    parts: tuple[str, ...]  # names; the clips are in parts/NAME.parquet
    rows: int
    bad_rows: int
    crashed_rows: int  # of a table: rows that an earlier step crashed on
    reached: str  # "manifest", or the step that wrote the table the plan was made from


def part_path(name: str) -> str:
    """Return where the planned clips of a part are."""
    return f"parts/{name}.parquet"


def make_plan(
    store: Store,
    manifest: str,
    part_clips: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Plan:
    """Cut a manifest or clip table into parts, or return the plan that is already there.

    `columns` maps columns of the table to the manifest's, as in `iter_manifest`.

    Raises ManifestError when the manifest cannot be read or holds no row at all.
    """
    columns = columns or {}
    wanted = digest(PLAN_VERSION, _content_digest(manifest), part_clips, _base(manifest), columns)
    plan, made_from = _read_plan(store)
    if plan and made_from == wanted and _is_whole(store, plan):
        return plan
    plan = _write_parts(store, manifest, part_clips, columns)
    tree = {"digest": wanted, **{name: getattr(plan, name) for name in Plan.__slots__}}
    write_sealed(store, PLAN_PATH, tree)
    return plan


def read_plan(store: Store) -> Plan | None:
    """Return the plan that is there; None if there is none, or it was changed."""
    return _read_plan(store)[0]


def _read_plan(store: Store) -> tuple[Plan | None, str]:
    """Return the plan that is there and the digest of what it was made from."""
    tree = read_sealed(store, PLAN_PATH) or {}
    try:
        made_from = tree.pop("digest")
        return Plan(**{**tree, "parts": tuple(tree["parts"])}), made_from
    except (TypeError, KeyError):  # there is none, or another version of avdata wrote it
        return None, ""


def _is_whole(store: Store, plan: Plan) -> bool:
    """Tell whether the parts are there with the content that their names stand for."""
    there = {f"parts/{name}" for name in store.list("parts")}
    if not there.issuperset(map(part_path, plan.parts)):
        return False

    def is_whole(name: str) -> bool:
        return store.sha256(part_path(name)).startswith(name)

    with ThreadPoolExecutor(READERS) as pool:  # for the sake of remote stores
        return all(pool.map(is_whole, plan.parts))


def forget_plan(store: Store, plan: Plan) -> None:
    """Remove a plan and its parts."""
    from avdata.manifest.clip_rows import HOMES_PATH

    for path in (PLAN_PATH, HOMES_PATH, *map(part_path, plan.parts)):
        store.delete(path)
    if not store.remote:
        with suppress(OSError):
            os.rmdir(store.full("parts"))


def _write_parts(
    store: Store, manifest: str, part_clips: int | None, columns: Mapping[str, str]
) -> Plan:
    names: list[str] = []
    rows = bad_rows = crashed_rows = 0
    reached = "manifest"
    with store.scratch() as scratch:
        buckets = _spill(_located(store, manifest, columns), Path(scratch), _bucket_count(manifest))
        rows = sum(bucket.clips for bucket in buckets)
        if rows == 0:
            raise ManifestError(f"{manifest} holds no row; a manifest needs at least a url column")
        size = part_clips or _part_size(rows)
        for bucket in buckets:
            for clips in cut(by_source(bucket.read()), size):
                bad_rows += sum(c.status is Status.FAILED and c.step == "manifest" for c in clips)
                crashed_rows += sum(c.reason == Reason.CRASHED for c in clips)
                reached = max((c.step for c in clips), key=_step_order, default=reached)
                temporary = Path(scratch) / "part.parquet"
                write_clips(temporary, clips)
                name = sha256_file(temporary)[:16]
                if not _has_part(store, name):
                    store.write_bytes(part_path(name), temporary.read_bytes())
                names.append(name)
    return Plan(tuple(names), rows, bad_rows, crashed_rows, reached)


def _has_part(store: Store, name: str) -> bool:
    return store.exists(part_path(name)) and store.sha256(part_path(name)).startswith(name)


def _step_order(step: str) -> int:
    from avdata.steps import PART_STEPS

    return PART_STEPS.index(step) if step in PART_STEPS else -1


def _located(store: Store, manifest: str, columns: Mapping[str, str]) -> Iterator[Clip]:
    """Yield the manifest's clips; media paths of a table from another folder become absolute."""
    from avdata.manifest import iter_manifest
    from avdata.manifest.clip_rows import add_homes, media_homes

    base = _base(manifest)
    elsewhere = base != (store.root if store.remote else os.path.abspath(store.root))
    told = False
    for clip in iter_manifest(manifest, columns=columns):
        if elsewhere and clip.source is not None:
            if not told:
                add_homes(store, media_homes(Store(base)))
                told = True
            source = replace(clip.source, path=join(base, clip.source.path))
            media = clip.media and replace(clip.media, path=join(base, clip.media.path))
            yield replace(clip, source=source, media=media)
        else:
            yield clip


def _base(manifest: str) -> str:
    """Return the folder in which the manifest lies."""
    if is_remote(manifest):
        return manifest.rpartition("/")[0]
    return str(Path(manifest).absolute().parent)


def _name(manifest: str) -> str:
    """Return the manifest's name in its folder."""
    return manifest.rpartition("/")[2]


def _content_digest(manifest: str) -> str:
    try:
        with Store(_base(manifest)).local(_name(manifest)) as path:
            return sha256_file(path)
    except OSError as error:
        why = error.strerror or "there is no such file"
        raise ManifestError(f"cannot read the manifest {manifest}: {why}") from None


def _part_size(rows: int) -> int:
    """Return the clips per part: a power of two, so that a few more rows change nothing.

    It grows with the square root of the rows: a part costs something by itself, but many cores
    want many parts. Nothing of the machine goes into it, as parts are part of the results' names.
    """
    size = 1
    while size < LARGEST_PART and PARTS_PER_SIZE * (2 * size) ** 2 <= rows:
        size *= 2
    return size


def cut(groups: Iterable[Sequence[Clip]], size: int) -> Iterator[list[Clip]]:
    """Join the clips of whole sources into parts of about `size` clips.

    A part ends after a source whose URL hashes to 0 modulo half the size, once it is half full,
    and in any case when it is twice as large: borders depend on what is near them.
    """
    half = max(1, size // 2)
    part: list[Clip] = []
    for group in groups:
        part.extend(group)
        border = keyed_hash(0, "plan", group[0].url or group[0].key) % half == 0
        if len(part) >= 2 * size or (len(part) >= half and border) or size == 1:
            yield part
            part = []
    if part:
        yield part


@dataclass
class _Bucket:
    """Clips of some of the URLs, in memory while there are few, then spilled to a file."""

    path: Path
    clips: int = 0

    def __post_init__(self) -> None:
        self.pending: list[Clip] = []

    def add(self, clip: Clip) -> None:
        self.pending.append(clip)
        self.clips += 1
        if len(self.pending) >= SPILL_CLIPS:
            self.flush()

    def flush(self) -> None:
        with self.path.open("ab") as file:
            # Plain tuples: pickling dataclasses takes several times as long.
            rows = [_VALUES(clip) for clip in self.pending]
            pickle.dump(rows, file, protocol=pickle.HIGHEST_PROTOCOL)
        self.pending = []

    def read(self) -> Iterator[Clip]:
        if self.path.exists():
            with self.path.open("rb") as file:
                while file.peek(1):
                    for values in pickle.load(file):
                        yield Clip(**dict(zip(Clip.__slots__, values, strict=True)))
            self.path.unlink()
        yield from self.pending


def _spill(clips: Iterable[Clip], folder: Path, count: int) -> list[_Bucket]:
    """Deal clips into buckets by URL, so that the clips of one URL end up together."""
    buckets = [_Bucket(folder / f"bucket-{i:05d}") for i in range(count)]
    for clip in clips:
        buckets[keyed_hash(0, "bucket", clip.url or clip.key) % count if count > 1 else 0].add(clip)
    return buckets


def _bucket_count(manifest: str) -> int:
    """Return how many buckets keep each one small: a power of two, by the size of the file."""
    count = 1
    size = Store(_base(manifest)).size(_name(manifest))
    while count * BUCKET_BYTES < size:
        count *= 2
    return count
