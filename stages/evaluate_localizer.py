"""Score a localizer where the truth is known: python -m stages.evaluate_localizer PIPELINE.yaml

Selection: how often the one frame it picks shows the source, against the middle frame, any frame,
and what the run itself picked; on videos with a ground truth as `avdata demo-data` writes it.

Localisation: cIoU and AUC of its maps against the boxes of VGG-SS, on clips that carry `bbox`.

Writes results.json, results.md and section.html to the pipeline's output,
stages/evaluate_localizer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from avdata.clip import Clip, Status
from avdata.config import Pipeline
from avdata.errors import SettingsError
from avdata.media_tar import TarReader
from avdata.report.training import SECTION
from avdata.scorers.base import ScoredClip
from avdata.scorers.localizer import Localizer
from avdata.scorers.mid_random import MidFrame
from avdata.shards.folder import FOLDER, INDEX_NAME
from avdata.store import Store
from avdata.strict import setting
from avdata.tables import iter_batches, iter_clips
from stages.engine.launch import launch_work, stage_folder
from stages.evaluation.cells import NONE, Table, markdown
from stages.evaluation.page import chapter
from stages.metrics import localisation as metric
from stages.metrics.bootstrap import bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avdata.scorers.base import Scores

NAME, TITLE = "evaluate_localizer", "Localizer"
TABLE = "select.parquet"
SIDE_PX = 224  # of the pictures on which maps and boxes are compared, as VGG-SS does
ROUNDING_S = 0.001  # the ground truth is rounded to milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is scored, and on what."""

    localizer: str | None = setting(
        None, "ONNX file; null: what train_localizer wrote to this pipeline's output.", path=True
    )
    truth: str | None = setting(
        None,
        "Folder of NAME.json, which says when the source of NAME.mp4 is in view; null: selection "
        "is not scored.",
        path=True,
    )
    split: str | None = setting("test", "Split of the shards that is scored; null: every clip.")


def evaluate(pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    """Return the results on a finished data run as plain values.

    Raises SettingsError if nothing can be scored.
    """
    store = Store(pipeline.output)
    path = settings.localizer or str(stage_folder(pipeline, "train_localizer") / "localizer.onnx")
    scorer = Localizer(path)
    clips = list(accepted(store, settings.split))
    boxed = [clip for clip in clips if "bbox" in clip.attributes]
    if settings.truth is None and not boxed:
        raise SettingsError(
            f"nothing says where the sources are: no accepted clip of {pipeline.output} carries "
            f"bbox, and stages.{NAME}.truth names no folder"
        )
    results: dict[str, Any] = {
        "localizer": path,
        **scorer.fingerprint(),
        "run": pipeline.output,
        "split": settings.split,
    }
    with TarReader(store) as reader:
        if settings.truth is not None:
            scored = [ScoredClip(clip, reader, pipeline.seed) for clip in clips]
            results["selection"] = selection(scored, Path(settings.truth), scorer)
        if boxed:
            require_whole_pictures(pipeline)
            scored = [ScoredClip(_middle(clip), reader, pipeline.seed) for clip in boxed]
            results["localisation"] = localisation(scored, scorer)
    return results


def accepted(store: Store, split: str | None) -> Iterator[Clip]:
    """Yield the accepted clips of a run that have frames, those of one split or all.

    Raises SettingsError if there are none, or no table of them.
    """
    if not store.exists(TABLE):
        raise SettingsError(f"{store.full(TABLE)} is missing; run the data half first: avdata run")
    keys = None if split is None else _keys(store, split)
    found = 0
    for clip in iter_clips(store, TABLE):
        usable = clip.status == Status.ACCEPTED and clip.media is not None and clip.media.frames
        if usable and (keys is None or clip.key in keys):
            found += 1
            yield clip
    if not found:
        raise SettingsError(f"{store.full(TABLE)} has no accepted clip with frames in {split}")


def _keys(store: Store, split: str) -> set[str]:
    """Return the keys of a split of the run's shards."""
    index = f"{FOLDER}/{INDEX_NAME}"
    if not store.exists(index):
        raise SettingsError(
            f"{store.full(index)} is missing, and without shards there are no splits; pack them, "
            f"or set stages.{NAME}.split to null"
        )
    keys = set()
    for batch in iter_batches(store, index, ["key", "split"]):
        own = zip(batch["key"].to_pylist(), batch["split"].to_pylist(), strict=True)
        keys |= {key for key, name in own if name == split}
    return keys


def selection(clips: Sequence[ScoredClip], truth: Path, scorer: Localizer) -> dict[str, Any]:
    """Return how often each way of picking one frame shows the source; intervals over videos.

    any is the expectation of a random pick, not one draw; possible is whether some frame shows it.
    """
    mid = MidFrame()
    ways: dict[str, list[float]] = {}

    def note(way: str, value: np.generic) -> None:
        ways.setdefault(way, []).append(float(value))

    for clip in clips:
        shown = visible(clip, truth)
        note("localizer", shown[_best(scorer.score(clip))])
        note("mid frame", shown[_best(mid.score(clip))])
        note("any frame", shown.mean())
        chosen = clip.clip.selection
        if chosen is not None and chosen.picks:
            note(f"picked in the run ({chosen.scorer})", shown[chosen.picks[0]])
        note("possible", shown.any())
    videos = [clip.clip.source_id for clip in clips]
    whole = {way: values for way, values in ways.items() if len(values) == len(clips)}
    own = np.array(ways["localizer"])
    return {
        "clips": len(clips),
        "videos": len(set(videos)),
        "shows_the_source": {
            way: bootstrap_mean(values, clusters=videos).to_json() for way, values in whole.items()
        },
        "localizer_ahead_of": {
            way: bootstrap_mean(own - np.array(whole[way]), clusters=videos).to_json()
            for way in ("mid frame", "any frame")
        },
    }


def visible(clip: ScoredClip, truth: Path) -> NDArray[np.bool_]:
    """Return for each candidate frame [T] whether its source is in view, by the ground truth."""
    name = PurePosixPath(unquote(urlsplit(clip.clip.url).path)).stem
    file = truth / f"{name}.json"
    try:
        intervals = json.loads(file.read_bytes())["visible"]
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(
            f"no ground truth of clip {clip.clip.key} in {file} ({error!r}); give the folder that "
            f"`avdata demo-data` wrote as stages.{NAME}.truth"
        ) from None
    t = clip.times_s + (clip.clip.start_ms or 0) / 1000 + ROUNDING_S
    shown = np.zeros(len(t), bool)
    for interval in intervals:
        shown |= (t >= interval["start_s"]) & (t < interval["end_s"])
    return shown


def _best(scores: Scores) -> int:
    """Return the frame with the highest score, of equals the earliest, as `select` picks it."""
    return int(np.argmax(np.asarray(scores.frame_scores, np.float32)))


def require_whole_pictures(pipeline: Pipeline) -> None:
    """Raise SettingsError if trim cut or padded the pictures, so that boxes no longer fit."""
    trim = pipeline.steps.trim
    if trim.fit != "squash" and None not in (trim.width_px, trim.height_px):
        raise SettingsError(
            f"boxes are shares of the whole picture, but steps.trim.fit is {trim.fit}; run the "
            "data half with fit: squash"
        )


def _middle(clip: Clip) -> Clip:
    """Return the clip with its middle frame alone: the one whose boxes are known."""
    assert clip.media is not None
    middle_s = ((clip.end_ms or 0) - (clip.start_ms or 0)) / 2000
    nearest = min(clip.media.frames, key=lambda frame: abs(frame.t_s - middle_s))
    return replace(clip, media=replace(clip.media, frames=(nearest,)))


def localisation(clips: Sequence[ScoredClip], scorer: Localizer) -> dict[str, Any]:
    """Return cIoU and AUC of the localizer's maps, and of a map that is brightest in the centre."""
    at = np.abs(np.arange(SIDE_PX) + 0.5 - SIDE_PX / 2)
    centre = -np.hypot(at[:, None], at[None, :])
    overlaps: dict[str, list[float]] = {"localizer": [], "centre of the picture": []}
    videos, left_out = [], []
    for clip in clips:
        boxes = read_boxes(clip.clip)
        if boxes is None:
            left_out.append(clip.clip.key)
            continue
        maps = scorer.score(clip).maps
        if maps is None:
            raise SettingsError("this localizer gives no map; export it with the output map")
        consensus = metric.consensus_map(boxes, SIDE_PX, SIDE_PX)
        heats = (metric.upsample(maps[0], SIDE_PX, SIDE_PX), centre)
        for values, heat in zip(overlaps.values(), heats, strict=True):
            values.append(metric.ciou(metric.brighter_part(heat), consensus))
        videos.append(clip.clip.source_id)
    if not videos:
        raise SettingsError(f"not one of {len(clips)} clips with bbox has boxes that can be read")
    scores = {
        name: metric.localisation_scores(values, clusters=videos)
        for name, values in overlaps.items()
    }
    return {
        "clips": len(videos),
        "videos": len(set(videos)),
        "left_out": left_out,
        "cIoU": {name: score.success.to_json() for name, score in scores.items()},
        "AUC": {name: score.auc.to_json() for name, score in scores.items()},
    }


def read_boxes(clip: Clip) -> NDArray[np.float64] | None:
    """Return the boxes [A, 4] of a clip, cut to the picture; None if there is none of any area."""
    try:
        boxes = np.array(json.loads(clip.attributes["bbox"]), np.float64)
    except (ValueError, TypeError):
        return None
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or not np.isfinite(boxes).all():
        return None
    boxes = boxes.clip(0, 1)
    pixels = (boxes * SIDE_PX).astype(int)
    return boxes if (pixels[:, 2:] > pixels[:, :2]).all(axis=1).any() else None


def to_tables(results: dict[str, Any]) -> list[Table]:
    """Return the results as tables of text."""
    chapters = (
        ("selection", "shows_the_source", "The picked frame shows the source"),
        ("selection", "localizer_ahead_of", "The localizer is ahead of"),
        ("localisation", "cIoU", "Share of pictures with cIoU of at least 0.5"),
        ("localisation", "AUC", "AUC of that share over all thresholds"),
    )
    found = []
    for part, name, title in chapters:
        if part in results:
            note = f"{results[part]['clips']} clips of {results[part]['videos']} videos"
            rows = [
                (row, _percent(figure["value"]), _interval(figure))
                for row, figure in results[part][name].items()
            ]
            notes = (f"{note}; 95 % intervals over videos",)
            found.append(Table(title, notes, ("", "%", "interval"), tuple(rows)))
    return found


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f}"


def _interval(figure: dict[str, float | None]) -> str:
    if figure["low"] is None:
        return "one video alone"
    return f"{_percent(figure['low'])} to {_percent(figure['high'])}"


def work(_: argparse.Namespace, pipeline: Pipeline, settings: Settings) -> str:
    """Score, write the results; return the tables."""
    results = evaluate(pipeline, settings)
    store = Store(str(stage_folder(pipeline, NAME)))
    lead = (
        f"Localizer {results['localizer_sha256'][:12]} on {results['run']}, split "
        f"{results['split'] or 'all'}."
    )
    tables = to_tables(results)
    text = markdown(TITLE, lead, tables)
    store.write_bytes("results.json", json.dumps(results, indent=1).encode())
    store.write_bytes("results.md", text.encode())
    store.write_bytes(SECTION, chapter(TITLE, lead, tables).encode())
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    launch_work(NAME, Settings, work, arguments)


if __name__ == "__main__":
    main()
