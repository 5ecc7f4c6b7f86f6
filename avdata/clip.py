"""The one record that flows from manifest to shard, and its Arrow schema.

A `Clip` is one source, one time window, what was measured on it, and its status. Steps take clips
and return clips; nothing is changed in place and no clip is ever dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from avdata.seeding import keyed_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from avdata.errors import ClipError, Reason

KEY_CHARACTERS = 160
KEY_PATTERN = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_-]{{0,{KEY_CHARACTERS - 1}}}")
"""What a key looks like: safe as a file name and as a WebDataset key (no dots, no slashes)."""

Float32 = Annotated[float, "float32"]
"""A number that clip tables hold in 32 bits: there are many of them."""


class Status(StrEnum):
    """Where a clip stands. Every clip ends as accepted, rejected, failed or expanded."""

    ACTIVE = "active"  # goes on to the next step
    ACCEPTED = "accepted"  # select chose its frames
    REJECTED = "rejected"  # select turned it down
    FAILED = "failed"  # a step could not process it
    EXPANDED = "expanded"  # trim replaced it by one clip per window or event


@dataclass(frozen=True, slots=True)
class Source:
    """A fetched, verified local video, as it was measured."""

    path: str  # relative to the run's folder, or absolute
    sha256: str
    bytes: int
    duration_ms: int
    width_px: int  # as displayed, rotation applied
    height_px: int
    fps: float  # average; 0.0 when unknown
    rotation_deg: int
    video_codec: str
    audio_codec: str
    audio_rate_hz: int
    audio_channels: int


@dataclass(frozen=True, slots=True)
class Member:
    """A byte range inside the part's media tar."""

    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One candidate frame (JPEG) inside the part's media tar."""

    t_s: float  # real presentation time, seconds after the clip's start
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Media:
    """What trim cut for one clip: sound, candidate frames and, if asked, the clip as mp4."""

    path: str  # the part's tar, relative to the run's folder
    audio: Member
    audio_format: str  # flac or wav
    sample_rate_hz: int
    n_samples: int
    width_px: int
    height_px: int
    frames: tuple[Frame, ...]
    video: Member | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames match the sound best, and why."""

    scorer: str
    frame_scores: tuple[Float32, ...]  # one per candidate frame; higher matches better
    picks: tuple[int, ...]  # indices into Media.frames, best first
    maps: tuple[
        tuple[Float32, ...], ...
    ] = ()  # per pick, map_height * map_width values, row by row
    map_height: int = 0
    map_width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One source, one time window, what was measured on it, its status."""

    # from the manifest
    key: str
    url: str  # http(s) URL, or a local path
    source_id: str  # the video at its home; splits never cut through it
    dataset: str = ""
    start_ms: int | None = None  # None: from the beginning
    end_ms: int | None = None  # None: to the end
    events_ms: tuple[int, ...] = ()  # times of events in the source, for trim's event mode
    split: str = ""  # official split, or "" to let shard decide
    labels: tuple[str, ...] = ()
    licence: str = ""
    attribution: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)  # the manifest's other columns
    # what became of it
    status: Status = Status.ACTIVE
    step: str = "manifest"  # the last step that wrote this row
    reason: str = ""  # an errors.Reason when rejected or failed
    detail: str = ""
    # what the steps found
    source: Source | None = None
    media: Media | None = None
    measures: Mapping[str, float] = field(default_factory=dict)  # e.g. {"loudness_lufs": -23.1}
    class_scores: tuple[Float32, ...] = ()  # YAMNet, mean over the clip, 521 values in [0, 1]
    class_scores_max: tuple[Float32, ...] = ()  # YAMNet, maximum over the clip
    selection: Selection | None = None

    def after(self, step: str, **changes: Any) -> Clip:
        """Return this clip as `step` leaves it."""
        return replace(self, step=step, **changes)

    def failed(self, step: str, error: ClipError) -> Clip:
        """Return this clip with the reason why `step` could not process it."""
        return self.after(
            step, status=Status.FAILED, reason=str(error.reason), detail=one_line(error.detail)
        )

    def rejected(self, step: str, reason: Reason, detail: str) -> Clip:
        """Return this clip with the reason why `step` turned it down."""
        return self.after(step, status=Status.REJECTED, reason=str(reason), detail=one_line(detail))

    def to_row(self) -> dict[str, Any]:
        """Return plain values in the order and form of the Arrow schema."""
        row = {name: getattr(self, name) for name in self.__slots__}
        for name, plain in PLAIN_FORM.items():
            row[name] = plain(row[name])
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Clip:
        """Rebuild a clip from a row of a clip table (columns it lacks take their defaults)."""
        values = {name: row[name] for name in cls.__slots__ if row.get(name) is not None}
        for name in ("events_ms", "labels", "class_scores", "class_scores_max"):
            if name in values:
                values[name] = tuple(values[name])
        for name in ("attributes", "measures"):
            if name in values:
                values[name] = dict(values[name])
        if "status" in values:
            values["status"] = Status(values["status"])
        if "source" in values:
            values["source"] = Source(**values["source"])
        if "media" in values:
            values["media"] = _media(values["media"])
        if "selection" in values:
            values["selection"] = _selection(values["selection"])
        return cls(**values)


def _items(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(mapping.items()) if mapping else []


def _tree(record: Source | Media | Selection | None) -> dict[str, Any] | None:
    return asdict(record) if record is not None else None


PLAIN_FORM: Mapping[str, Callable[[Any], Any]] = {
    "status": str,
    "attributes": _items,
    "measures": _items,
    "source": _tree,
    "media": _tree,
    "selection": _tree,
}
"""How the fields that Arrow does not know as they are become plain values."""


def _media(row: Mapping[str, Any]) -> Media:
    video = row["video"]
    return Media(
        **{
            **row,
            "audio": Member(**row["audio"]),
            "frames": tuple(Frame(**frame) for frame in row["frames"]),
            "video": Member(**video) if video else None,
        }
    )


def _selection(row: Mapping[str, Any]) -> Selection:
    return Selection(
        **{
            **row,
            "frame_scores": tuple(row["frame_scores"]),
            "picks": tuple(row["picks"]),
            "maps": tuple(tuple(values) for values in row["maps"]),
        }
    )


def one_line(text: str, limit: int = 500) -> str:
    """Return `text` on one line, without control characters, cut to `limit` characters."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * limit]).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def child_key(key: str, start_ms: int) -> str:
    """Return the key of the clip that trim cuts from `key` at `start_ms`.

    A key so long that the child's would not be one is cut, with a hash in place of its end.
    """
    suffix = f"-{start_ms:08d}"
    if len(key) + len(suffix) > KEY_CHARACTERS:
        mark = f"-{keyed_hash(0, 'key', key):016x}"
        key = key[: KEY_CHARACTERS - len(suffix) - len(mark)] + mark
    return key + suffix


@cache
def clip_schema() -> pa.Schema:
    """Return the Arrow schema of every clip table: `Clip`, field for field."""
    import pyarrow as pa

    return pa.schema(list(_arrow_type(Clip)))


def _arrow_type(kind: Any) -> pa.DataType:
    """Return the Arrow type that holds a field of this type hint; None is null in any of them."""
    import pyarrow as pa

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), Float32: pa.float32()}
    if kind in plain:
        return plain[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return pa.struct([(f.name, _arrow_type(hints[f.name])) for f in fields(kind)])
    if origin is tuple:
        return pa.list_(_arrow_type(inner[0]))
    if origin is Mapping:
        return pa.map_(*map(_arrow_type, inner))
    if origin is UnionType:
        return _arrow_type(next(i for i in inner if i is not NoneType))
    if isinstance(kind, type) and issubclass(kind, str):  # Status
        return pa.string()
    raise TypeError(f"clip tables have no column for {kind}")


MANIFEST_COLUMNS = (
    "key",
    "url",
    "source_id",
    "dataset",
    "start_ms",
    "end_ms",
    "events_ms",
    "split",
    "labels",
    "licence",
    "attribution",
)
"""The columns of a manifest; any other column of the file travels in `attributes`."""
