"""What the chapters of the report say, as plain values for the template."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avdata.clip import Clip, Status
from avdata.errors import RETRYABLE
from avdata.report import charts
from avdata.report.advice import advice
from avdata.report.facts import GOOD, HEARD, Facts, Pair
from avdata.report.gallery import class_name
from avdata.report.steps import StepFacts

TOP = 16
MAX_CHARTS = 14
UNITS = {
    "lufs": "LUFS",
    "dbfs": "dBFS",
    "db": "dB",
    "s": "s",
    "hz": "Hz",
    "px": "px",
    "share": "share of the clip",
}


def funnel(facts: Facts) -> list[tuple[StepFacts, charts.Bar]]:
    """Return each step with a bar of where its clips went."""
    rows = []
    for step in facts.steps:
        parts = {"good": step.active_out}
        parts |= {str(s): step.here(s) for s in (Status.REJECTED, Status.FAILED)}
        rows.append((step.name, parts))
    return list(zip(facts.steps, charts.stacked_bars(rows), strict=True))


def measured(facts: Facts) -> list[charts.Histogram]:
    """Return the histograms: durations, where picks lie, and every measure."""
    found = [charts.histogram("Clip duration", "s", facts.duration_s)]
    picks = Pair(good=facts.pick_position)
    found.append(charts.histogram("Where the best pick lies", "share of clip", picks, (0, 1), 20))
    for name in sorted(facts.measures, key=lambda n: (n != "loudness_lufs", n)):
        title, unit = measure_title(name)
        bounds = (0.0, 1.0) if name.endswith("_share") else None
        found.append(charts.histogram(title, unit, facts.measures[name], bounds))
    return [h for h in found if h][:MAX_CHARTS]


def measure_title(name: str) -> tuple[str, str]:
    """Return a measure's name and unit in words: loudness_lufs is ("Loudness", "LUFS")."""
    stem, _, suffix = name.rpartition("_")
    title, unit = (stem, UNITS[suffix]) if stem and suffix in UNITS else (name, "")
    title = title.replace("_", " ").replace("/", ": ")
    return title[:1].upper() + title[1:], unit


def rankings(facts: Facts, names: Sequence[str]) -> list[tuple[str, str, list[charts.Bar]]]:
    """Return (title, explanation, bars) of what was heard and what the labels say."""
    heard = charts.ranking(facts.classes, lambda i: class_name(names, i), TOP)
    labelled = charts.ranking(facts.labels, str, TOP)
    kinds = len(facts.classes[True] + facts.classes[False])
    labels = len(facts.labels[True] + facts.labels[False])
    found = [
        (
            "What is heard",
            f"Clips by their three strongest YAMNet classes, of those that reach a mean score of "
            f"{HEARD:g}; {kinds} classes in all, {facts.unheard} clips without any.",
            heard,
        ),
        ("What the labels say", f"Clips by label; {labels} labels in all.", labelled),
    ]
    return [entry for entry in found if entry[2]]


@dataclass(frozen=True)
class ReasonRow:
    status: str
    step: str
    reason: str
    count: int
    advice: str
    retryable: bool
    rules: tuple[tuple[str, int], ...]  # those of select that its clips break, most first
    examples: tuple[Clip, ...]


def reasons(
    facts: Facts, examples: dict[tuple[Status, str], list[int]], clips: dict[int, Clip]
) -> list[ReasonRow]:
    """Return every reason of the last table with its count, advice and examples, most first."""
    if not facts.steps:
        return []
    rows = []
    for (status, step, reason), count in facts.steps[-1].counts.items():
        if status not in (Status.FAILED, Status.REJECTED):
            continue
        kind = f"{step}/{reason}" if status == Status.FAILED else str(reason)
        shown = tuple(clips[p] for p in examples.get((Status(status), kind), ()))
        retryable = status == Status.FAILED and reason in RETRYABLE
        rules = facts.rules.get(reason, Counter()) if status == Status.REJECTED else Counter()
        broken = tuple(sorted(rules.items(), key=lambda rule: (-rule[1], rule[0])))
        rows.append(
            ReasonRow(status, step, reason, count, advice(reason), retryable, broken, shown)
        )
    return sorted(rows, key=lambda r: (r.status, -r.count, r.step, r.reason))


@dataclass(frozen=True)
class Split:
    name: str
    clips: int
    shards: int
    bytes: int | None
    sources: int | None


def splits(facts: Facts) -> list[Split]:
    """Return the splits as dataset.json or the summary tells, else as the index counts them."""
    told = (facts.dataset or facts.summary.get("shards") or {}).get("splits", {})
    clips: Counter[str] = Counter()
    shards: Counter[str] = Counter()
    for row in facts.shards:
        clips[row["split"]] += row["clips"]
        shards[row["split"]] += 1
    names = sorted({*told, *clips}, key=lambda n: (("train", "val", "test", n).index(n), n))
    return [
        Split(
            name=n,
            clips=clips.get(n, told.get(n, {}).get("clips", 0)),
            shards=shards.get(n, told.get(n, {}).get("shards", 0)),
            bytes=told.get(n, {}).get("bytes"),
            sources=told.get(n, {}).get("sources"),
        )
        for n in names
    ]


def packed(facts: Facts) -> dict[str, Any]:
    """Return how the accepted clips became the packed ones."""
    told = facts.dataset or facts.summary.get("shards") or {}
    accepted, duplicates = facts.status[Status.ACCEPTED], told.get("duplicates", 0)
    clips = sum(s.clips for s in splits(facts))
    return {
        "accepted": accepted,
        "duplicates": duplicates,
        "clips": clips,
        "adds_up": accepted - duplicates == clips,
        "notes": told.get("notes", ()),
    }


@dataclass(frozen=True)
class ProvenanceRow:
    dataset: str
    licence: str
    rows: int
    kept: int
    attributions: tuple[str, ...]


def provenance(facts: Facts) -> list[ProvenanceRow]:
    """Return rows and kept clips by dataset and licence, most kept first."""
    rows = [
        ProvenanceRow(
            dataset,
            licence,
            counts.total() - counts[Status.EXPANDED],
            sum(counts[s] for s in GOOD),
            tuple(sorted(facts.attributions.get((dataset, licence), ()))),
        )
        for (dataset, licence), counts in facts.provenance.items()
    ]
    return sorted(rows, key=lambda r: (-r.kept, r.dataset, r.licence))[:TOP]


def setting_lines(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted names and values."""
    if isinstance(tree, dict) and tree:
        return [
            line
            for key, value in tree.items()
            for line in setting_lines(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, json.dumps(tree, ensure_ascii=False))] if prefix else []


def tiles(facts: Facts) -> list[tuple[str, str, str]]:
    """Return the numbers that sum a run up: name, value, a few words more."""
    if not facts.steps:
        return []
    whole, status = charts.whole, facts.status
    kept = "Accepted" if status[Status.ACCEPTED] or not status[Status.ACTIVE] else "Ready"
    found = [(f"{kept} clips", whole(facts.good), f"from {whole(facts.good_sources)} sources")]
    if facts.duration_s.good.count:
        each = charts.number(facts.duration_s.good.mean)
        total = charts.seconds_text(facts.duration_s.good.total)
        what = "Sound" if facts.sound_alone else "Sight and sound"
        found.append((what, total, f"{each} s per clip on average"))
    for name, state in (("Rejected", Status.REJECTED), ("Failed", Status.FAILED)):
        judged = status.total() - status[Status.EXPANDED]
        share = 100 * status[state] / judged if judged else 0.0
        found.append((name, whole(status[state]), f"{share:.1f} % of all clips"))
    split = splits(facts)
    if split:
        size = sum(s.bytes or 0 for s in split)
        found.append(
            (
                "Shards",
                whole(sum(s.shards for s in split)),
                charts.bytes_text(size) if size else f"{len(split)} splits",
            )
        )
    if facts.summary.get("wall_seconds") is not None:
        found.append(("Time taken", charts.seconds_text(facts.summary["wall_seconds"]), ""))
    return found


def times(facts: Facts) -> list[charts.Bar]:
    """Return a bar per step of the milliseconds it took."""
    told = [s for s in facts.summary.get("steps", ()) if s.get("seconds") is not None]
    return charts.stacked_bars([(s["name"], {"good": round(1000 * s["seconds"])}) for s in told])


def made(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how the run was started."""
    names = ("manifest", "output", "seed", "version")
    return [(n, str(summary[n])) for n in names if summary.get(n) not in (None, "")]
