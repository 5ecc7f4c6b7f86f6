"""Score what was trained, beside the papers: python -m stages.evaluate PIPELINE.yaml

One picture for each test clip and system. R@k: does the picture show the sound's class? FID and IS:
do pictures look real and varied? Diversity: do pictures of one sound differ? Modality gap: how far
apart are sounds and pictures in a latent space? AVC, CLIP, structure and more: of pictures restyled
by a sound. Zero-shot and linear probe: is a sound's class named? All intervals are over source
videos.
docs/evaluation.md says what is compared with what.

Writes results.json, results.md, evaluation.html, section.html, clips.jsonl and sounds.jsonl (a line
for each clip), gap-FAMILY.svg, and study/items.jsonl for a user study to the pipeline's output,
stages/evaluate; pictures and features are kept beside, and used again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avdata.config import Pipeline
from avdata.errors import SettingsError, ShardError
from avdata.report.training import SECTION
from avdata.store import Store
from stages.engine.fabric import set_float32_precision
from stages.engine.launch import launch_work, stage_folder
from stages.evaluation import scores
from stages.evaluation.answers import preferences
from stages.evaluation.exhibits import Showing
from stages.evaluation.figures import guessed, judge_warnings, measured, reported
from stages.evaluation.judged import Judged
from stages.evaluation.judges import open_clip, open_judges, open_looks, open_pair_judges
from stages.evaluation.labelled import read_labelled
from stages.evaluation.page import Evaluation, make_examples, page, section
from stages.evaluation.painters import Painters, own_encoder, trained_here
from stages.evaluation.settings import Settings
from stages.evaluation.sounds import named_sounds
from stages.evaluation.studio import Studio
from stages.evaluation.study import write_items
from stages.evaluation.system import REAL, System, find_systems
from stages.evaluation.tables import to_markdown
from stages.family import Family
from stages.judges.table import Wish
from stages.metrics.frechet import Reference
from stages.metrics.projection import Method
from stages.metrics.retrieval import KS
from stages.pairs.features import FeatureCache
from stages.pairs.samples import frames_of

NAME = "evaluate"
CLIPS, SOUNDS = "clips.jsonl", "sounds.jsonl"
EXAMPLES = 8  # clips of which the page shows pictures
PLOTTED = 1000  # pairs in the plot of the latent space

logger = logging.getLogger(__name__)


def folder_of(pipeline: Pipeline, settings: Settings) -> Path:
    """Return where the evaluation is written."""
    return stage_folder(pipeline, f"{NAME}_{settings.chapter}" if settings.chapter else NAME)


def evaluate(pipeline: Pipeline, settings: Settings) -> Evaluation:
    """Return figures and pictures; raises AvdataError for what is missing or does not fit."""
    folder = folder_of(pipeline, settings)
    find_device(settings.device)
    systems = find_systems(settings.systems, settings.folders, trained_here(pipeline))
    require_projection(settings.projection)
    painters = Painters(pipeline.output, settings.parts, settings.device, settings.options)
    features = FeatureCache(folder / "features", settings.batch_size, settings.workers)
    heard = named_sounds(pipeline, settings, systems, painters, features)
    if not settings.pictures and heard is None:
        raise SettingsError(
            f"stages.{NAME}.pictures is false, and nobody here hears: there is nothing to score; "
            f"name a family in stages.{NAME}.sounds.listeners"
        )
    found = (
        of_pictures(pipeline, settings, systems, painters, features)
        if settings.pictures
        else Evaluation(no_pictures(pipeline, settings), [], {}, [])
    )
    if heard is None:
        return found
    told = [family for family in systems.values() if family is not None and settings.pictures]
    own = [table for one in (*told, *heard.families) for table in one.papers]
    papers = {table.title: asdict(table) for table in own}
    also = {"sounds": heard.results, "papers": list(papers.values())}
    return replace(found, results={**found.results, **also}, sounds=heard.lines)


def no_pictures(pipeline: Pipeline, settings: Settings) -> dict[str, Any]:
    """Return the results of an evaluation that looks at no picture."""
    return {
        "run": pipeline.output,
        "chapter": settings.chapter,
        "seed": pipeline.seed,
        "warnings": [],
        "titles": {},
        "systems": {},
        "gap": {},
        "exhibits": {},
        **reported({}, {}),
    }


def of_pictures(
    pipeline: Pipeline,
    settings: Settings,
    systems: dict[System, Family | None],
    painters: Painters,
    features: FeatureCache,
) -> Evaluation:
    """Return the figures of the systems' pictures."""
    folder, seed = folder_of(pipeline, settings), pipeline.seed
    device = find_device(settings.device)
    shards = settings.shards or str(pipeline.output)
    test, train, classes = read_labelled(
        shards, settings.split, settings.train_split, settings.classes_file, settings.max_classes
    )
    if len(test) < 2:
        raise ShardError(
            f"{shards} has {len(test)} clip with a class in {settings.split}, which has no spread "
            f"to measure; name a split of two or more as stages.{NAME}.split, or pack more clips"
        )
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
    if not settings.restyling.texts:
        asked.discard("clip_text")
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
            one.keep(f"R@{k}", one.hits(k))
        for name, values in one.of_clips.items():
            for row, value in values.items():
                clips[row].setdefault(system.name, {})[name] = value
    preferred = {} if settings.ranking is None else preferences(Path(settings.ranking))
    if preferred and preferred.keys().isdisjoint(figures):
        raise SettingsError(
            f"stages.{NAME}.ranking ranks {', '.join(preferred)}, none of which is scored here: "
            f"{', '.join(figures)}"
        )
    for name in preferred.keys() & figures:
        figures[name]["preference"] = preferred[name]
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
        "sounds": {},
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
    drawings = {}
    results["exhibits"] = {}
    own_families = {its.name: its for its in systems.values() if its is not None}
    for its in own_families.values():
        if its.exhibits is None:
            continue
        showing = Showing(
            studio=studio,
            systems=[system.name for system in systems],
            sampling=by_video,
            projection=settings.projection,
        )
        for exhibit in its.exhibits(showing):
            results["exhibits"][exhibit.name] = {
                **asdict(exhibit.table),
                "figures": exhibit.figures,
            }
            if exhibit.plot is not None:
                drawings[exhibit.name] = exhibit.plot
    named = {system.name: own for system, own in samples.items()}
    before = next((one for one in systems if one.starts or one.contents), None)
    contents = None if before is None else judged(before).before.resized(side)
    write_items(folder / "study", test, named, settings.study_clips, contents)
    shown = {system.title: own for system, own in samples.items()}
    examples = make_examples(shown, test.classes, EXAMPLES)
    return Evaluation(results, clips, plots, examples, drawings=drawings)


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
    for name, own in ((CLIPS, evaluation.clips), (SOUNDS, evaluation.sounds)):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in own)
        store.write_bytes(name, "".join(lines).encode())
    for name, svg in evaluation.plots.items():
        store.write_bytes(f"gap-{name}.svg", svg.encode())
    for name, svg in evaluation.drawings.items():
        store.write_bytes(f"{name}.svg", svg.encode())
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
