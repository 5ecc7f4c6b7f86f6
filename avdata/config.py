"""Settings: frozen dataclasses, strict YAML, `--set` overrides.

A pipeline file is one complete run, without inheritance. Unknown keys and wrong types are errors
that name the key, the value seen and what would be right. Each field carries its own help text,
from which docs/pipeline.md is made.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from avdata.errors import SettingsError

T = TypeVar("T")


def setting(default: Any, help: str) -> Any:
    """Declare a settings field with its help text; mutable defaults are copied."""
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def section(cls: type[T], help: str) -> Any:
    """Declare a field that is itself a settings class."""
    return field(default_factory=cls, metadata={"help": help})


def _require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be greater than 0, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """From a URL or a path to a verified local file."""

    via: Literal["auto", "ytdlp", "http"] = setting(
        "auto",
        "Who downloads http(s) URLs: yt-dlp, plain HTTP with Range resume, or by the look of the "
        "URL. Local paths are linked or copied whatever this says.",
    )
    max_height_px: int | None = setting(
        360, "yt-dlp takes the best format not higher than this; null for no limit."
    )
    sections: bool = setting(
        False,
        "Where the site allows, download only the span that the source's clips need (yt-dlp "
        "sections, key frames forced). Costs an encode; saves traffic on long videos.",
    )
    max_bytes: int = setting(4 * 2**30, "A larger file fails as too_large.")
    downloads: int = setting(4, "Sources fetched at the same time by each worker.")
    connect_timeout_s: float = setting(15.0, "Longest wait for a connection.")
    stall_timeout_s: float = setting(30.0, "Longest time without a new byte.")
    timeout_s: float = setting(1800.0, "Longest time for one source, retries included.")
    retries: int = setting(3, "Tries after the first one, for failures that may pass.")
    backoff_s: float = setting(
        1.0, "Pause before the first retry; doubles with each one. A server's Retry-After counts."
    )
    rate_limit_bytes_s: int | None = setting(None, "Cap of the download rate per worker.")
    sleep_s: float = setting(
        0.0,
        "Pause after each yt-dlp download (YouTube throttles below 5-10 s); above 0 each worker "
        "takes one site video at a time.",
    )
    cookies_file: str | None = setting(None, "Netscape cookies file for sites that ask for it.")
    proxy: str | None = setting(None, "Proxy URL for all downloads.")
    local: Literal["link", "copy"] = setting(
        "link", "How local files enter the run: hard link (copy where impossible), or copy."
    )
    require_audio: bool = setting(True, "A source without an audio stream fails as no_audio.")
    require_video: bool = setting(True, "A source without a video stream fails as no_video.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimSettings:
    """From a source to exact clips: sound, candidate frames, optionally mp4."""

    mode: Literal["listed", "windows", "events"] = setting(
        "listed",
        "listed: the manifest's start_ms and end_ms; windows: consecutive windows over each "
        "row's span; events: one window per entry of events_ms.",
    )
    window_s: float = setting(10.0, "Length of a window (windows, events; listed without end_ms).")
    hop_s: float | None = setting(None, "Step between windows; null: window_s, no overlap.")
    event_offset_s: float = setting(0.0, "Start of the window relative to its event.")
    max_windows: int | None = setting(None, "At most this many windows per row, evenly spread.")
    short_clips: Literal["fail", "keep"] = setting(
        "fail", "What to do with a window that runs past the end of the source."
    )
    short_tolerance_s: float = setting(
        0.25, "A window may miss this much at the end and still be whole."
    )
    sample_rate_hz: int = setting(16000, "Rate of the mono sound (44100 for the CLIP family).")
    audio_format: Literal["flac", "wav"] = setting("flac", "flac is smaller, wav decodes faster.")
    frames_per_clip: int | None = setting(
        8, "Candidate frames at the centres of so many equal parts of the clip; null: none."
    )
    frame_rate_hz: float | None = setting(
        None, "Candidate frames at this rate instead, from the clip's start; null: per clip."
    )
    width_px: int | None = setting(512, "Width of the frames; null: keep the source's.")
    height_px: int | None = setting(512, "Height of the frames; null: keep the source's.")
    fit: Literal["squash", "crop", "pad"] = setting(
        "squash", "How a frame meets the size: squash, centre crop, or pad with black."
    )
    jpeg_quality: int = setting(92, "1 to 100.")
    video: bool = setting(False, "Also write each clip as an mp4 (h264 + AAC).")
    decoder: Literal["pyav", "decord"] = setting(
        "pyav", "decord hands over to pyav what it cannot decode (AV1, odd files)."
    )
    decoder_threads: int = setting(
        1, "Threads of the video decoder; 0: one per core. Costs CPU; helps few, long sources."
    )
    threads: int = setting(0, "Sources cut at once within a part; 0: one per core.")

    def __post_init__(self) -> None:
        _require_positive(self, "window_s", "hop_s", "max_windows", "sample_rate_hz")
        _require_positive(self, "frames_per_clip", "frame_rate_hz", "width_px", "height_px")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}")
        for name in ("short_tolerance_s", "decoder_threads", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class YamnetSettings:
    """How YAMNet hears."""

    backend: Literal["litert", "tfhub"] = setting(
        "litert", "LiteRT (.tflite) or tensorflow-hub (SavedModel folder or hub handle)."
    )
    weights: str | None = setting(
        None,
        "litert: the official .tflite; null: from the weights table, downloaded at first use. "
        "tfhub: a SavedModel folder or a hub handle; null: google/yamnet/1.",
    )
    batch_size: int = setting(
        128,
        "Windows per call of a tensorflow-hub model; bounds the memory for long clips. The LiteRT "
        "file takes one window per call.",
    )
    threads: int = setting(1, "Threads of the LiteRT interpreter; parts already run side by side.")

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.threads < 1:
            raise ValueError("batch_size and threads must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSettings:
    """What is measured on each clip. Tag never decides."""

    taggers: tuple[str, ...] = setting(
        ("yamnet", "loudness", "silence", "stillness", "scenes", "brightness"),
        "Names from avdata.taggers.",
    )
    yamnet: YamnetSettings = section(YamnetSettings, "How YAMNet hears.")
    silence_dbfs: float = setting(
        -60.0, "A 50 ms frame whose RMS level is below this is silent (silence_share)."
    )
    still_difference: float = setting(
        0.003,
        "Neighbouring frames whose mean absolute grey difference, in [0, 1], is below this count "
        "as the same picture (still_share).",
    )
    cut_difference: float = setting(
        0.4,
        "Neighbouring frames whose HSV histograms differ by at least this share, in [0, 1], have "
        "a cut between them (scene_cuts).",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Bounds on one measure, both inclusive."""

    min: float | None = setting(None, "Smallest value that passes.")
    max: float | None = setting(None, "Largest value that passes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSettings:
    """Which clips are accepted, and which of their frames match the sound best."""

    require: dict[str, Range] = setting(
        {}, "Measure name to the range it must lie in; `yamnet/Rain` names a YAMNet class."
    )
    reject: dict[str, Range] = setting({}, "Measure name to the range in which it is rejected.")
    scorer: Literal["mid", "random", "av_sync", "localizer", "moments"] = setting(
        "mid", "How frames are scored."
    )
    top_k: int = setting(1, "How many frames are picked per clip, best first.")
    min_gap_s: float = setting(
        0.0, "Least time between two picks; 0 lets them be neighbours, as published lists do."
    )
    localizer: str | None = setting(None, "ONNX file of the trained localizer (scorer: localizer).")
    moments: str | None = setting(
        None, "JSON of published moments, `id_startms_endms` to 10 fps indices (scorer: moments)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSettings:
    """WebDataset tars and their index."""

    max_clips: int = setting(1000, "Clips per shard at most.")
    max_bytes: int = setting(500 * 2**20, "Bytes of media per shard at most.")
    frames: Literal["picked", "all"] = setting(
        "picked", "Which frames go in: the picked ones, or every candidate."
    )
    video: bool = setting(False, "Put the clip's mp4 in, if trim wrote one.")
    splits: dict[str, float] = setting(
        {"train": 0.8, "val": 0.1, "test": 0.1},
        "Shares by source video, for rows without an official split.",
    )
    drop_duplicates: bool = setting(
        True, "Of clips with the same content and window under other names, keep the first."
    )

    def __post_init__(self) -> None:
        for name in ("max_clips", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, share in self.splits.items():
            if not re.fullmatch(r"[a-z0-9_]{1,40}", name):
                raise ValueError(f"splits: {name!r} must be made of a-z, 0-9 and _")
            if not 0 <= share < float("inf"):
                raise ValueError(f"splits: the share of {name} must be 0 or more, got {share}")
        if not any(self.splits.values()):
            raise ValueError("splits: at least one share must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsSettings:
    """The data half, in the order in which it runs."""

    fetch: FetchSettings = section(FetchSettings, "URL to verified local file.")
    trim: TrimSettings = section(TrimSettings, "Source to exact clips.")
    tag: TagSettings = section(TagSettings, "Measure.")
    select: SelectSettings = section(SelectSettings, "Decide, and pick frames.")
    shard: ShardSettings = section(ShardSettings, "Pack.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One complete run."""

    name: str = setting("", "What the run is called; the output folder is runs/NAME by default.")
    seed: int = setting(0, "Seed of every random choice.")
    manifest: str = setting("", "The manifest: CSV, JSONL or Parquet; local or an fsspec URL.")
    output: str = setting("", "Where the run is written; local or an fsspec URL.")
    part_clips: int | None = setting(
        None, "Clips per part, the unit of work; null: by the length of the manifest, 1 to 256."
    )
    report: bool = setting(True, "Write report.html when the run is complete.")
    steps: StepsSettings = section(StepsSettings, "The data half.")
    stages: dict[str, Any] = setting(
        {}, "Training and evaluation; each program under stages/ reads its own entry."
    )


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline file and apply `--set key.sub=value` overrides.

    Raises SettingsError for unknown keys, wrong types, bad YAML and values out of range.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the pipeline file {path}: {error}") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must be a mapping of settings, got {type(tree).__name__}")
    for override in overrides:
        _set(tree, override)
    pipeline = build(Pipeline, tree, str(path))
    return pipeline if pipeline.name else dataclasses.replace(pipeline, name=Path(path).stem)


def pipeline_from_overrides(overrides: Sequence[str]) -> Pipeline:
    """Return the default pipeline with `--set` overrides, for commands run without a file."""
    tree: dict[str, Any] = {}
    for override in overrides:
        _set(tree, override)
    return build(Pipeline, tree, "--set")


def _set(tree: dict[str, Any], override: str) -> None:
    import yaml

    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SettingsError(f"--set takes key=value, got {override!r}")
    *parents, last = path.split(".")
    node: Any = tree
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise SettingsError(f"--set {path}: {name} is a value, not a section")
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {path}: {text!r} is not valid YAML: {error}") from None


def build(cls: type[T], tree: Mapping[str, Any], where: str) -> T:
    """Build a settings class from a plain mapping; strict about keys and types."""
    return typing.cast(T, _coerce(tree, cls, where))


def _coerce(value: Any, kind: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _coerce(value, next(a for a in arguments if a is not type(None)), where)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise _wrong(where, value, "one of " + ", ".join(map(repr, arguments)))
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _wrong(where, value, "a list")
        return tuple(_coerce(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a mapping")
        return {str(k): _coerce(v, arguments[1], f"{where}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise _wrong(where, value, names[kind])
    return value


def _build_dataclass(cls: Any, tree: Any, where: str) -> Any:
    if tree is None:
        tree = {}  # an empty YAML section
    if not isinstance(tree, Mapping):
        raise _wrong(where, tree, f"a section with {', '.join(f.name for f in fields(cls))}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    for name in tree:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise SettingsError(f"{where}: unknown key {name!r}; {hint}")
    values = {name: _coerce(value, hints[name], f"{where}: {name}") for name, value in tree.items()}
    try:
        return cls(**values)
    except ValueError as error:  # a class's own __post_init__ check
        raise SettingsError(f"{where}: {error}") from None


def _wrong(where: str, value: Any, wanted: str) -> SettingsError:
    return SettingsError(f"{where} must be {wanted}, got {value!r}")


def to_tree(settings: Any) -> Any:
    """Return settings as plain values, ready for YAML or JSON."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return {f.name: to_tree(getattr(settings, f.name)) for f in fields(settings)}
    if isinstance(settings, Mapping):
        return {k: to_tree(v) for k, v in settings.items()}
    if isinstance(settings, tuple | list):
        return [to_tree(v) for v in settings]
    return settings


def digest(*values: Any) -> str:
    """Return a short digest (16 hex digits) of plain values: the name of what they lead to."""
    text = json.dumps([to_tree(v) for v in values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
