"""The settings of the data half: what a pipeline file may say, with its defaults.

A pipeline file is one complete run, without inheritance; docs/pipeline.md lists every key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avdata.located import beside
from avdata.shipped import pipeline_file
from avdata.stage_names import require_stages
from avdata.strict import build, read_tree, section, setting

DAY_S = 86_400
MAX_SIDE_PX = 16_384
UNBOUNDED = 2**63 - 1


def _require(settings: Any, low: float, high: float, *names: str) -> None:
    """Raise ValueError unless each value, None aside, lies between the bounds."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            upto = "or more" if high == UNBOUNDED else f"to {high:g}"
            raise ValueError(f"{name} must be {low:g} {upto}, got {value}")


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
    downloads: int = setting(
        4, "Sources fetched at the same time: in all on one machine, on a cluster by each worker."
    )
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
    pause_s: float = setting(
        60.0,
        "When a site limits the rate or asks for a proof that no bot is there, all workers leave "
        "it alone for so long; doubles with each refusal after a pause. A Retry-After counts.",
    )
    pause_total_s: float = setting(
        7200.0,
        "Longest time of such pauses in a row; then rows fail (rate_limited, bot_check), and "
        "--retry-failed tries them again. 0: no pauses.",
    )
    cookies_file: str | None = setting(
        None, "Netscape cookies file for sites that ask for it.", path=True
    )
    cookies_from_browser: str | None = setting(
        None,
        "Take yt-dlp's cookies from a browser of the machine that fetches, as firefox or "
        "chrome:PROFILE; not for plain HTTP.",
    )
    extractor_args: dict[str, dict[str, tuple[str, ...]]] = setting(
        {}, "yt-dlp's extractor arguments by site, as {youtube: {player_client: [web]}}."
    )
    ytdlp_plugins: tuple[str, ...] = setting(
        (),
        "yt-dlp plugins to load, by the names of their modules; all others stay off. They are "
        "other people's code and see your cookies.",
    )
    proxy: str | None = setting(None, "Proxy URL for all downloads.")
    local: Literal["link", "copy"] = setting(
        "link", "How local files enter the run: hard link (copy where impossible), or copy."
    )
    require_audio: bool = setting(True, "A source without an audio stream fails as no_audio.")
    require_video: bool = setting(True, "A source without a video stream fails as no_video.")

    def __post_init__(self) -> None:
        _require(self, 1, UNBOUNDED, "max_height_px", "max_bytes", "rate_limit_bytes_s")
        _require(self, 1, 1024, "downloads")
        _require(self, 0.001, 365 * DAY_S, "connect_timeout_s", "stall_timeout_s", "timeout_s")
        _require(self, 0, 1000, "retries")
        _require(self, 0, DAY_S, "backoff_s", "sleep_s")
        _require(self, 0.001, DAY_S, "pause_s")
        _require(self, 0, 365 * DAY_S, "pause_total_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimSettings:
    """From a source to exact clips: sound, candidate frames, optionally mp4."""

    mode: Literal["listed", "windows", "events"] = setting(
        "listed",
        "listed: the manifest's start_ms to end_ms, or to the source's end; windows: consecutive "
        "windows over each row's span; events: one window per entry of events_ms.",
    )
    window_s: float = setting(10.0, "Length of a window (windows, events).")
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
    decoder: Literal["pyav", "decord", "decord_for_all"] = setting(
        "pyav",
        "decord reads local files; it hands over to pyav what it cannot decode (AV1, odd files). "
        "Its wheel carries an FFmpeg of 2018, so only decord_for_all opens with it what came from "
        "the web too.",
    )
    decoder_threads: int = setting(
        1, "Threads of the video decoder; 0: one per core. Costs CPU; helps few, long sources."
    )
    threads: int = setting(
        0, "Sources cut at once within a part; 0: one, or one per core with --workers 0."
    )

    def __post_init__(self) -> None:
        _require(self, 0.001, DAY_S, "window_s", "hop_s")
        _require(self, -DAY_S, DAY_S, "event_offset_s")
        _require(self, 0, DAY_S, "short_tolerance_s")
        _require(self, 1, UNBOUNDED, "max_windows")
        _require(self, 1000, 384_000, "sample_rate_hz")
        _require(self, 1, 10_000, "frames_per_clip")
        _require(self, 0.001, 1000, "frame_rate_hz")
        _require(self, 1, MAX_SIDE_PX, "width_px", "height_px")
        _require(self, 1, 100, "jpeg_quality")
        _require(self, 0, 1024, "decoder_threads", "threads")


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
        path="optional",
    )
    batch_size: int = setting(
        128,
        "Windows per call of a tensorflow-hub model; bounds the memory for long clips. The LiteRT "
        "file takes one window per call.",
    )
    threads: int = setting(1, "Threads of the LiteRT interpreter; parts already run side by side.")

    def __post_init__(self) -> None:
        _require(self, 1, UNBOUNDED, "batch_size")
        _require(self, 1, 1024, "threads")


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
        {},
        "Measure name to the range it must lie in; `yamnet/Rain` names a YAMNet class. "
        "Measured by the scorer: `c_max`, `av_sync` and `av_sync_max`, `moment_offset_s`.",
    )
    reject: dict[str, Range] = setting({}, "Measure name to the range in which it is rejected.")
    scorer: Literal["mid", "random", "av_sync", "localizer", "moments", "none"] = setting(
        "mid", "How frames are scored; none: no frame is picked, clips are packed as sound alone."
    )
    top_k: int = setting(1, "How many frames are picked per clip, best first.")
    min_gap_s: float = setting(
        0.0, "Least time between two picks; 0 lets them be neighbours, as published lists do."
    )
    localizer: str | None = setting(
        None, "ONNX file of the trained localizer (scorer: localizer).", path=True
    )
    moments: str | None = setting(
        None,
        "JSON of published moments, `id_startms_endms` to 10 fps indices (scorer: moments).",
        path=True,
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
        "Shares by source video, for rows without an official split: of their sum, at most 1.",
    )
    split_by: Literal["source", "clip"] = setting(
        "source",
        "What goes into a split as a whole. clip: as some papers do; clips of one video then stand "
        "on both sides, and the report names that a leak.",
    )
    drop_duplicates: bool = setting(
        True, "Of clips with the same content and window under other names, keep the first."
    )

    def __post_init__(self) -> None:
        _require(self, 1, UNBOUNDED, "max_clips", "max_bytes")
        for name, share in self.splits.items():
            if not re.fullmatch(r"[a-z0-9_]{1,40}", name):
                raise ValueError(f"splits: {name!r} must be made of a-z, 0-9 and _")
            if not 0 <= share < float("inf"):
                raise ValueError(f"splits: the share of {name} must be 0 or more, got {share}")
        if not any(self.splits.values()):
            raise ValueError("splits: at least one share must be above 0")
        if (total := sum(self.splits.values())) > 1 + 1e-9:
            raise ValueError(f"splits: shares must sum to 1 at most, these sum to {total:g}")


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
    manifest: str = setting(
        "", "The manifest: CSV, JSONL or Parquet; local or an fsspec URL.", path=True
    )
    columns: dict[str, str] = setting(
        {}, "What columns of the manifest are that have other names there: {start: start_s}."
    )
    output: str = setting("", "Where the run is written; local or an fsspec URL.")
    part_clips: int | None = setting(
        None, "Clips per part, the unit of work; null: by the length of the manifest, 1 to 256."
    )
    report: bool = setting(True, "Write report.html when the run is complete.")
    steps: StepsSettings = section(StepsSettings, "The data half.")
    stages: dict[str, Any] = setting(
        {}, "Training and evaluation, a section for each program under stages/: docs/stages.md."
    )

    def __post_init__(self) -> None:
        _require(self, 1, UNBOUNDED, "part_clips")
        if self.steps.select.scorer == "none" and self.steps.shard.frames == "all":
            raise ValueError(
                "steps.shard.frames: all packs pictures, steps.select.scorer: none sound alone; "
                "name another scorer, or leave frames: picked"
            )


def load_pipeline(
    path: str | Path, overrides: Sequence[str] = (), *, stages: Collection[str] = ()
) -> Pipeline:
    """Read a pipeline file, by path or name, and apply `--set key.sub=value` overrides.

    Paths in it count from the working directory, else from its own folder. stages: names of stages
    beside those of this project. Raises SettingsError for unknown keys and stages, wrong types, bad
    YAML and values out of range.
    """
    pipeline = build(Pipeline, read_tree(path, overrides), str(path))
    require_stages(pipeline.stages, str(path), stages)
    pipeline = beside(pipeline, pipeline_file(path).parent)
    return pipeline if pipeline.name else dataclasses.replace(pipeline, name=Path(path).stem)
