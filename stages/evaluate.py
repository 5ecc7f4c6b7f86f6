"""Score what was trained, beside the papers: python -m stages.evaluate PIPELINE.yaml

One picture for each test clip and system. R@k: does the picture show the sound's class? FID and IS:
do pictures look real and varied? Modality gap: how far apart are sounds and pictures in the latent
space? All intervals are over source videos. docs/evaluation.md says what is compared with what.

Writes results.json, results.md, evaluation.html, section.html, clips.jsonl (a line for each clip)
and gap.svg to the pipeline's output, stages/evaluate; pictures and features are kept beside, and
used again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from avdata.config import Pipeline
from avdata.errors import SettingsError, ShardError
from avdata.report.training import SECTION
from avdata.store import Store
from avdata.strict import setting
from stages.engine.errors import CheckpointError
from stages.engine.launch import launch_work, stage_folder
from stages.evaluation import scores
from stages.evaluation.judges import Look, Recall, open_clip, open_judges, open_looks
from stages.evaluation.labelled import read_labelled
from stages.evaluation.page import Evaluation, make_examples, page, section
from stages.evaluation.samples import FeatureCache, frames_of
from stages.evaluation.systems import LISTEN, Studio, System
from stages.evaluation.tables import to_markdown
from stages.judges.clip import DEFAULT
from stages.judges.inception import Resize
from stages.metrics.bootstrap import RESAMPLES
from stages.metrics.frechet import Reference
from stages.metrics.projection import Method
from stages.metrics.retrieval import KS, chance, hits_at_k
from stages.sound2scene.load import STAGES, load_model
from stages.sound2scene.paper import BASELINES, OTHERS
from stages.sound2scene.scene import Sound2Scene

NAME = "evaluate"
CLIPS = "clips.jsonl"
EXAMPLES = 8  # clips of which the page shows pictures
PLOTTED = 1000  # pairs in the plot of the latent space


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is compared, on which clips, and who judges."""

    systems: tuple[System, ...] = setting(
        ("sound2scene", "icgan", "retrieval", "upper_bound"),
        "sound2scene, icgan (hears nothing), retrieval (nearest training frame), upper_bound "
        "(real frames).",
    )
    split: str = setting("test", "Split that is scored.")
    train_split: str = setting(
        "train", "Split that names the classes, teaches the probe and is retrieved from."
    )
    classes_file: str | None = setting(
        None, "Labels that are candidates, one a line, as for train_sound2scene; null: all."
    )
    max_classes: int | None = setting(
        None, "Only the first so many of classes_file; without it, the most frequent ones."
    )
    recall: Recall = setting(
        "auto",
        "Who names the class: CLIP, or a linear probe on real training frames; auto: the probe "
        "where CLIP cannot be had.",
    )
    clip: str = setting(DEFAULT, "CLIP: a local folder, or a name on the hub.")
    features: Look = setting(
        "inception",
        "What FID, IS and the probe look at. Only inception is comparable; image_encoder is this "
        "pipeline's own, thumbnail mean colours.",
    )
    inception: str | None = setting(
        None, "Inception: a pt_inception file, or what train_inception wrote; null: FID's own."
    )
    resize: Resize = setting("bicubic", "To 299 px: as clean-fid does, or as the first FID did.")
    is_splits: int = setting(10, "Splits of the Inception score.")
    resamples: int = setting(RESAMPLES, "Bootstrap draws of an interval.")
    projection: Method = setting(
        "tsne", "Plot of the latent space: tsne, umap (pip install 'avdata[umap]') or pca."
    )
    generator: str | None = setting(None, "Folder or checkpoint; null: what train_icgan made here.")
    audio_encoder: str | None = setting(None, "The same, of train_sound2scene.")
    image_encoder: str | None = setting(None, "The same, of train_image_encoder.")
    shards: str | None = setting(None, "Folder of shards; null: of this pipeline's own output.")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is one.")
    batch_size: int = setting(64, "Pictures or sounds of one batch.")
    workers: int = setting(2, "Threads that read and decode.")

    def __post_init__(self) -> None:
        if not self.systems or len(set(self.systems)) < len(self.systems):
            raise ValueError(f"systems must name each system once, got {list(self.systems)}")
        if self.split == self.train_split:
            raise ValueError(f"split and train_split must differ, got {self.split} for both")
        for name in ("is_splits", "resamples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")
        if self.max_classes is not None and self.max_classes < 2:
            raise ValueError(f"max_classes must be at least 2, got {self.max_classes}")


def evaluate(pipeline: Pipeline, settings: Settings) -> Evaluation:
    """Return figures and pictures; raises AvdataError for what is missing or does not fit."""
    folder, seed = stage_folder(pipeline, NAME), pipeline.seed
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
    require_projection(settings.projection)
    features = FeatureCache(folder / "features", settings.batch_size, settings.workers)
    model = cache(lambda: open_model(pipeline, settings))  # upper_bound alone needs none
    studio = Studio(model, test.clips, train.clips, features, folder / "pictures", seed)

    looks = open_looks(settings.features, model, settings.inception, settings.resize, device)
    clip, why_not = open_clip(settings.recall, settings.clip, device)
    samples = {system: studio.samples(system) for system in settings.systems}
    judges = open_judges(looks, clip, why_not, train, classes, features)

    by_video = scores.Sampling(test.clips.sources, settings.resamples, seed)
    targets = np.array([classes.index(name) for name in test.classes])
    ks = [k for k in KS if k < len(classes)]  # among as many as there are, all are right
    real = features.of(frames_of(test.clips), looks).values
    reference = Reference.of(real)
    figures: dict[str, Any] = {}
    clips: list[dict[str, Any]] = [
        {"key": key, "source": source, "class": name}
        for key, source, name in zip(test.clips.keys, by_video.sources, test.classes, strict=True)
    ]
    for system, own in samples.items():
        similarity = judges.recall.scores(features.of(own, judges.recall_looks).values)
        seen = features.of(own, looks).values
        figures[system] = scores.recall(similarity, targets, ks, by_video)
        for k in ks:
            for clip_row, hit in zip(clips, hits_at_k(similarity, targets, k), strict=True):
                clip_row.setdefault(system, {})[f"R@{k}"] = float(hit)
        if system != "upper_bound":  # which is the reference itself
            figures[system]["FID"] = scores.frechet(seen, reference, by_video)
        figures[system] |= scores.inception(
            judges.inception.scores(seen), settings.is_splits, by_video
        )
        figures[system]["by_class"] = scores.by_class(similarity, targets, ks, classes, by_video)

    results: dict[str, Any] = {
        "run": pipeline.output,
        "dataset": test.clips.dataset,
        "split": settings.split,
        "clips": len(test),
        "videos": len(set(test.clips.sources)),
        "clips_without_a_class": test.left_out,
        "classes": classes,
        "seed": seed,
        "models": dict(model().sources) if model.cache_info().currsize else {},
        "judges": {
            **judges.describe(),
            "FID_reference": f"{len(real)} real frames of {settings.split}, one a clip",
        },
        "chance": {f"R@{k}": chance(k, len(classes)) for k in ks},
        "systems": figures,
        "papers": [asdict(table) for table in (BASELINES, *OTHERS)],
    }
    svg = None
    if LISTEN & set(settings.systems):
        z_v, z_a = studio.z_v().values, studio.z_a().values
        results["gap"] = scores.gap(z_v, z_a, by_video)
        svg, results["plot"] = scores.gap_plot(
            z_v, z_a, test.classes, method=settings.projection, most=PLOTTED, seed=seed
        )
    return Evaluation(results, clips, svg, make_examples(samples, test.classes, EXAMPLES))


def open_model(pipeline: Pipeline, settings: Settings) -> Sound2Scene:
    """Return the trained parts; raises CheckpointError, naming the trainer, for a missing one."""
    given = {part: getattr(settings, part) for part in STAGES}
    try:
        return load_model(pipeline.output, **given, device=settings.device)
    except CheckpointError as error:
        makers = ", ".join(f"{part}: python -m stages.{maker}" for part, maker in STAGES.items())
        raise CheckpointError(
            f"{error}. Parts are made in this pipeline's output ({makers}), or named by "
            f"stages.{NAME}.generator, audio_encoder and image_encoder"
        ) from None


def require_projection(method: Method) -> None:
    """Raise SettingsError for a method whose package is missing, before any work is done."""
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise SettingsError(
            f"stages.{NAME}.projection is umap, which needs the package umap-learn; run: "
            "pip install 'avdata[umap]', or take tsne or pca"
        )


def find_device(name: str) -> torch.device:
    """Return the device; raises SettingsError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            f"stages.{NAME}.device is cuda, but torch finds no GPU; use auto or cpu"
        )
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
    if evaluation.svg is not None:
        store.write_bytes("gap.svg", evaluation.svg.encode())
    tree = json.dumps(evaluation.results, indent=1, ensure_ascii=False)
    store.write_bytes("results.json", tree.encode())
    return text


def work(_: argparse.Namespace, pipeline: Pipeline, settings: Settings) -> str:
    """Score, write the results; return the tables."""
    store = Store(str(stage_folder(pipeline, NAME)))
    with store.lock():
        store.clean()  # what a killed evaluation left unfinished; complete caches stay
        return write(evaluate(pipeline, settings), store)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run as a program."""
    launch_work(NAME, Settings, work, arguments)


if __name__ == "__main__":
    main()
