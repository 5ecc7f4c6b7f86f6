"""Score what was trained, beside the papers: python -m stages.evaluate PIPELINE.yaml

One picture for each test clip and system. R@k: does the picture show the sound's class? FID and IS:
do pictures look real and varied? Diversity: do pictures of one sound differ? Modality gap: how far
apart are sounds and pictures in a latent space? AVC, CLIP, structure and more: of pictures restyled
by a sound. All intervals are over source videos.
docs/evaluation.md says what is compared with what.

Writes results.json, results.md, evaluation.html, section.html, clips.jsonl (a line for each clip),
gap-FAMILY.svg, and study/items.jsonl for a user study to the pipeline's output, stages/evaluate;
pictures and features are kept beside, and used again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from avdata.config import Pipeline
from avdata.errors import SettingsError, ShardError
from avdata.report.training import SECTION
from avdata.store import Store
from avdata.strict import section as settings_section
from avdata.strict import setting
from stages.engine.fabric import set_float32_precision
from stages.engine.launch import launch_work, stage_folder
from stages.evaluation import scores
from stages.evaluation.figures import guessed, judge_warnings, measured, reported
from stages.evaluation.judged import Judged
from stages.evaluation.judges import (
    JudgeName,
    Recall,
    open_clip,
    open_judges,
    open_looks,
    open_pair_judges,
)
from stages.evaluation.labelled import read_labelled
from stages.evaluation.page import Evaluation, make_examples, page, section
from stages.evaluation.painters import Painters, own_encoder, trained_here
from stages.evaluation.studio import Studio
from stages.evaluation.study import write_items
from stages.evaluation.system import REAL, System, find_systems
from stages.evaluation.tables import to_markdown
from stages.evaluation.wishes import RestylingSettings
from stages.families import families
from stages.judges.clip import DEFAULT
from stages.judges.inception import Resize
from stages.judges.table import Wish
from stages.metrics.bootstrap import RESAMPLES
from stages.metrics.frechet import Reference
from stages.metrics.projection import Method
from stages.metrics.retrieval import KS
from stages.pairs.features import FeatureCache
from stages.pairs.samples import frames_of

NAME = "evaluate"
CLIPS = "clips.jsonl"
EXAMPLES = 8  # clips of which the page shows pictures
PLOTTED = 1000  # pairs in the plot of the latent space

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is compared, on which clips, and who judges."""

    chapter: str = setting(
        "",
        "Name of another evaluation of the same run, such as avstyle: a chapter of its own, in "
        "stages/evaluate_NAME.",
    )
    systems: tuple[str, ...] = setting(
        (),
        "Systems by name (docs/evaluation.md), upper_bound is real frames; []: all of the families "
        "that this pipeline trains, and upper_bound.",
    )
    folders: dict[str, str] = setting(
        {},
        "Other people's pictures as systems: a name, and the folder with KEY.png of each clip.",
        path=True,
    )
    split: str = setting("test", "Split that is scored.")
    train_split: str = setting(
        "train", "Split that names the classes, teaches the probe and is retrieved from."
    )
    classes_file: str | None = setting(
        None,
        "Labels that are candidates, one a line, as for train_sound2scene; null: all.",
        path=True,
    )
    max_classes: int | None = setting(
        None, "Only the first so many of classes_file; without it, the most frequent ones."
    )
    recall: Recall = setting(
        "auto",
        "Who names the class: CLIP, or a linear probe on real training frames; auto: the probe "
        "where CLIP cannot be had.",
    )
    clip: str = setting(
        DEFAULT,
        "CLIP: a name in the weights table, a local folder, or a name on the hub.",
        path="optional",
    )
    features: JudgeName = setting(
        "inception",
        "What FID, IS and the probe look at. Only inception is comparable; image_encoder is this "
        "pipeline's own, thumbnail mean colours.",
    )
    inception: str | None = setting(
        None,
        "Inception: a pt_inception file, or what train_inception wrote; null: FID's own.",
        path="optional",
    )
    resize: Resize = setting("bicubic", "To 299 px: as clean-fid does, or as the first FID did.")
    judged_px: int = setting(
        256, "Side to which all pictures, real ones too, are brought before they are compared."
    )
    is_splits: int = setting(10, "Splits of the Inception score.")
    varied: int = setting(4, "Pictures of one sound whose diversity is measured.")
    resamples: int = setting(RESAMPLES, "Bootstrap draws of an interval.")
    projection: Method = setting(
        "tsne", "Plot of the latent space: tsne, umap (pip install 'avdata[umap]') or pca."
    )
    restyling: RestylingSettings = settings_section(
        RestylingSettings, "Figures of pictures that were made of a picture and a sound."
    )
    parts: dict[str, str] = setting(
        {},
        "Folders or checkpoints in the place of what was trained here, by part: generator, "
        "audio_encoder, image_encoder.",
        path="optional",
    )
    study_clips: int = setting(40, "Clips that are written for a user study; 0: none.")
    shards: str | None = setting(
        None, "Folder of shards; null: of this pipeline's own output.", path="optional"
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is one.")
    batch_size: int = setting(64, "Pictures or sounds of one batch.")
    workers: int = setting(2, "Threads that read and decode.")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]{0,40}", self.chapter):
            raise ValueError(f"chapter must be made of a-z, 0-9 and _, got {self.chapter!r}")
        if len(set(self.systems)) < len(self.systems):
            raise ValueError(f"systems must name each system once, got {list(self.systems)}")
        if self.split == self.train_split:
            raise ValueError(f"split and train_split must differ, got {self.split} for both")
        for name, least in (
            *(("is_splits", 1), ("resamples", 1), ("batch_size", 1), ("judged_px", 1)),
            *(("varied", 2), ("workers", 0), ("study_clips", 0)),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.max_classes is not None and self.max_classes < 2:
            raise ValueError(f"max_classes must be at least 2, got {self.max_classes}")
        known = {part for one in families() for part in one.parts}
        if strange := sorted(set(self.parts) - known):
            raise ValueError(f"parts: no {', '.join(strange)}; known: {', '.join(sorted(known))}")


def folder_of(pipeline: Pipeline, settings: Settings) -> Path:
    """Return where the evaluation is written."""
    return stage_folder(pipeline, f"{NAME}_{settings.chapter}" if settings.chapter else NAME)


def evaluate(pipeline: Pipeline, settings: Settings) -> Evaluation:
    """Return figures and pictures; raises AvdataError for what is missing or does not fit."""
    folder, seed = folder_of(pipeline, settings), pipeline.seed
    device = find_device(settings.device)
    systems = find_systems(settings.systems, settings.folders, trained_here(pipeline))
    shards = settings.shards or str(pipeline.output)
    test, train, classes = read_labelled(
        shards, settings.split, settings.train_split, settings.classes_file, settings.max_classes
    )
    if len(test) < 2:
        raise ShardError(
            f"{shards} has {len(test)} clip with a class in {settings.split}, which has no spread "
            f"to measure; name a split of two or more as stages.{NAME}.split, or pack more clips"
        )
    require_projection(settings.projection)
    painters = Painters(pipeline.output, settings.parts, settings.device)
    features = FeatureCache(folder / "features", settings.batch_size, settings.workers)
    studio = Studio(
        painters.open, test.clips, test.classes, train.clips, features, folder / "pictures", seed
    )
    wish = Wish(device=device, weights=settings.inception, resize=settings.resize)
    looks = open_looks(settings.features, lambda: own_encoder(systems, studio), wish)
    clip, why_not = open_clip(settings.recall, settings.clip, device)
    side = settings.judged_px
    samples = {one: one.samples(studio, 0).resized(side) for one in systems}
    known = frames_of(train.clips).resized(side)
    asked = {figure for one in systems if one is not REAL for figure in one.figures}
    pairs = open_pair_judges(
        asked,
        settings.restyling.avc,
        stage_folder(pipeline, "train_avc"),
        test.clips.sample_rate_hz,
        clip or settings.clip,
        device,
    )
    judges = open_judges(looks, clip, why_not, train, known, classes, features, pairs)

    ks = [k for k in KS if k < len(classes)]  # among as many as there are, all are right
    real = frames_of(test.clips).resized(side)
    reference = Reference.of(features.of(real, looks).values)
    by_video = scores.Sampling(test.clips.sources, settings.resamples, seed)

    def judged(system: System) -> Judged:
        return Judged(
            system=system,
            samples=samples.get(system, real),
            studio=studio,
            judges=judges,
            reference=reference,
            classes=classes,
            targets=np.array([classes.index(name) for name in test.classes]),
            ks=ks,
            sampling=by_video,
            judged_px=side,
            is_splits=settings.is_splits,
            varied=settings.varied,
            restyling=settings.restyling,
        )

    figures: dict[str, Any] = {}
    clips: list[dict[str, Any]] = [
        {"key": key, "source": source, "class": name}
        for key, source, name in zip(test.clips.keys, by_video.sources, test.classes, strict=True)
    ]
    for system, its_family in systems.items():
        one = judged(system)
        figures[system.name] = measured(one, {} if its_family is None else dict(its_family.figures))
        for k in ks:
            for clip_row, hit in zip(clips, one.hits(k), strict=True):
                clip_row.setdefault(system.name, {})[f"R@{k}"] = float(hit)
    warnings = judge_warnings(judged(REAL))
    for warning in warnings:
        logger.warning("%s", warning)

    results: dict[str, Any] = {
        "run": pipeline.output,
        "chapter": settings.chapter,
        "dataset": test.clips.dataset,
        "split": settings.split,
        "clips": len(test),
        "videos": len(set(test.clips.sources)),
        "clips_without_a_class": test.left_out,
        "classes": classes,
        "seed": seed,
        "models": painters.sources(),
        "judges": {
            **judges.describe(),
            "judged_px": side,
            "FID_reference": f"{len(real)} real frames of {settings.split}, one a clip",
        },
        "restyling": asdict(settings.restyling),
        "warnings": warnings,
        "chance": guessed(figures.values(), ks, len(classes)),
        "titles": {system.name: system.title for system in systems},
        "systems": figures,
        **reported(systems, figures),
    }
    plots = {}
    results["gap"], results["plot"] = {}, {}
    listening = [its for system, its in systems.items() if its is not None and system.hears]
    for its in {its.name: its for its in listening}.values():
        if its.spaces is not None:
            z_v, z_a = (table.values for table in its.spaces(studio))
            results["gap"][its.name] = scores.gap(z_v, z_a, by_video)
            plots[its.name], results["plot"][its.name] = scores.gap_plot(
                z_v, z_a, test.classes, method=settings.projection, most=PLOTTED, seed=seed
            )
    named = {system.name: own for system, own in samples.items()}
    before = next((system.contents(studio) for system in systems if system.contents), None)
    contents = None if before is None else frames_of(before).resized(side)
    write_items(folder / "study", test, named, settings.study_clips, contents)
    shown = {system.title: own for system, own in samples.items()}
    return Evaluation(results, clips, plots, make_examples(shown, test.classes, EXAMPLES))


def require_projection(method: Method) -> None:
    """Raise SettingsError for a method whose package is missing, before any work is done."""
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise SettingsError(
            f"stages.{NAME}.projection is umap, which needs the package umap-learn; run: "
            "pip install 'avdata[umap]', or take tsne or pca"
        )


def find_device(name: str) -> torch.device:
    """Return the device, set to compute exactly; SettingsError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            f"stages.{NAME}.device is cuda, but torch finds no GPU; use auto or cpu"
        )
    set_float32_precision(exact=True)  # figures do not depend on the card
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def write(evaluation: Evaluation, store: Store) -> str:
    """Write all forms of the results, results.json last; return the Markdown."""
    text = to_markdown(evaluation.results)
    store.delete("results.json")
    store.write_bytes("results.md", text.encode())
    store.write_bytes("evaluation.html", page(evaluation).encode())
    store.write_bytes(SECTION, section(evaluation).encode())
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in evaluation.clips)
    store.write_bytes(CLIPS, "".join(lines).encode())
    for name, svg in evaluation.plots.items():
        store.write_bytes(f"gap-{name}.svg", svg.encode())
    tree = json.dumps(evaluation.results, indent=1, ensure_ascii=False)
    store.write_bytes("results.json", tree.encode())
    return text


def work(_: argparse.Namespace, pipeline: Pipeline, settings: Settings) -> str:
    """Score, write the results; return the tables."""
    store = Store(str(folder_of(pipeline, settings)))
    with store.lock():
        store.clean()  # what a killed evaluation left unfinished; complete caches stay
        return write(evaluate(pipeline, settings), store)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    launch_work(NAME, Settings, work, arguments)


if __name__ == "__main__":
    main()
