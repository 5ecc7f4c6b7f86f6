"""What a run's tables say, gathered batch by batch in memory that does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avdata.clip import Status
from avdata.report.sample import Sampler
from avdata.report.steps import StepFacts, collect_steps, count_by, grouped, read_json
from avdata.report.tally import Tally
from avdata.steps.select import rules_in
from avdata.store import Store
from avdata.tables import iter_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOOD = (str(Status.ACCEPTED), str(Status.ACTIVE))
MAX_MEASURES = 32
MAX_LABELS = 10_000
MAX_RULES = 1000
TOP_CLASSES = 3
HEARD = 0.1  # mean score over the clip from which a class counts as heard
EXAMPLES = 3
COLUMNS = (
    "key",
    "source_id",
    "dataset",
    "labels",
    "licence",
    "attribution",
    "status",
    "step",
    "reason",
    "detail",
    "measures",
    "class_scores",
    "media.n_samples",
    "media.sample_rate_hz",
    "media.frames.list.element.t_s",
    "selection.picks",
)


@dataclass
class Pair:
    """One quantity, for the clips that were kept and for the others."""

    good: Tally = field(default_factory=Tally)
    bad: Tally = field(default_factory=Tally)

    def add(self, values: NDArray[np.float64], good: NDArray[np.bool_]) -> None:
        self.good.add(values[good])
        self.bad.add(values[~good])


@dataclass
class Facts:
    """Everything the report says in numbers."""

    summary: dict[str, Any]
    steps: list[StepFacts]
    dataset: dict[str, Any] = field(default_factory=dict)  # shards/dataset.json, or empty
    final: str = ""  # path of the last table written, "" when there is none
    status: Counter[str] = field(default_factory=Counter)
    duration_s: Pair = field(default_factory=Pair)
    pick_position: Tally = field(default_factory=Tally)
    measures: dict[str, Pair] = field(default_factory=dict)
    classes: dict[bool, Counter[int]] = field(
        default_factory=lambda: {True: Counter(), False: Counter()}
    )
    unheard: int = 0  # clips in which no class is heard
    rules: dict[str, Counter[str]] = field(default_factory=dict)  # reason -> rule -> clips
    labels: dict[bool, Counter[str]] = field(
        default_factory=lambda: {True: Counter(), False: Counter()}
    )
    provenance: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    attributions: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    good_sources: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)
    samples: Sampler = field(default_factory=Sampler)

    @property
    def sound_alone(self) -> bool:
        """Tell whether the shards hold no picture; older ones do not say."""
        return self.dataset.get("pictures") == 0 and bool(self.dataset.get("clips"))

    @property
    def good(self) -> int:
        return sum(self.status[s] for s in GOOD)


def collect(store: Store) -> Facts:
    """Read the summary, every step's table and the shard index of a run folder.

    What is missing stays empty.
    """
    summary = read_json(store, "summary.json")
    facts = Facts(summary=summary, steps=collect_steps(store, summary))
    facts.samples.seed = int(summary.get("seed") or 0)
    if facts.steps:
        facts.final = f"{facts.steps[-1].name}.parquet"
        _read_final(store, facts)
    # Shards that the summary does not know were left by an earlier run, as with tables.
    if not summary or "shards" in summary:
        facts.dataset = read_json(store, "shards/dataset.json")
        facts.shards = _shards(store, facts.dataset)
    return facts


def _read_final(store: Store, facts: Facts) -> None:
    sources: list[NDArray[np.uint64]] = []
    position = 0
    for batch in iter_batches(store, facts.final, COLUMNS):
        status = batch["status"].to_pylist()
        facts.status.update(status)
        _count_rules(facts, batch)
        good = np.asarray([s in GOOD for s in status], bool)
        judged = good | np.asarray([s == Status.REJECTED for s in status], bool)
        sources.append(_digests(pc.unique(batch["source_id"].filter(pa.array(good)))))
        facts_of_media(facts, batch, good)
        _measures(facts, batch, good, judged)
        strongest = _classes(facts, batch, good, judged)
        labels = batch["labels"].to_pylist()
        for row_good, row_judged, row in zip(good.tolist(), judged.tolist(), labels, strict=True):
            if row and row_judged:
                _count_labels(facts.labels[row_good], row)
        _provenance(facts, batch, good)
        facts.samples.add_batch(batch, position, labels, strongest)
        position += batch.num_rows
    facts.good_sources = len(np.unique(np.concatenate(sources))) if sources else 0


def _digests(values: pa.Array) -> NDArray[np.uint64]:
    """Return 8 bytes per value: enough to count distinct ones without keeping them."""
    import hashlib

    digests = (hashlib.blake2b(str(v).encode(), digest_size=8).digest() for v in values.to_pylist())
    return np.frombuffer(b"".join(digests), np.uint64)


def lists(array: pa.Array) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the flat values of a list column with each row's start and length; null is empty."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    values = pc.list_flatten(array)
    lengths = lengths.astype(np.int64)
    flat = values if pa.types.is_struct(values.type) else values.to_numpy(zero_copy_only=False)
    return flat, np.cumsum(lengths) - lengths, lengths


def facts_of_media(facts: Facts, batch: pa.RecordBatch, good: NDArray[np.bool_]) -> None:
    """Count durations, and where in the clip the best pick lies (0 start, 1 end)."""
    media = batch["media"]
    samples = pc.cast(pc.struct_field(media, "n_samples"), pa.float64())
    rate = pc.cast(pc.struct_field(media, "sample_rate_hz"), pa.float64())
    duration_s = np.asarray(
        pc.fill_null(pc.divide(samples, rate), float("nan")).to_numpy(zero_copy_only=False)
    )
    facts.duration_s.add(duration_s, good)
    frames, frame_starts, frame_counts = lists(pc.struct_field(media, "frames"))
    times = pc.struct_field(frames, "t_s").to_numpy(zero_copy_only=False)
    picks, pick_starts, pick_counts = lists(pc.struct_field(batch["selection"], "picks"))
    rows = np.flatnonzero(good & (pick_counts > 0) & (duration_s > 0))
    first = picks[pick_starts[rows]].astype(np.int64)
    inside = (first >= 0) & (first < frame_counts[rows])
    rows, first = rows[inside], first[inside]
    facts.pick_position.add(times[frame_starts[rows] + first] / duration_s[rows])


def _measures(
    facts: Facts, batch: pa.RecordBatch, good: NDArray[np.bool_], judged: NDArray[np.bool_]
) -> None:
    column = batch["measures"]
    for name in sorted(n for n in pc.unique(column.keys).to_pylist() if n is not None):
        if name not in facts.measures and len(facts.measures) >= MAX_MEASURES:
            continue
        values = pc.map_lookup(column, pa.scalar(name), "first")
        numbers = pc.fill_null(values, float("nan")).to_numpy(zero_copy_only=False)
        facts.measures.setdefault(name, Pair()).add(
            np.where(judged, numbers, np.nan).astype(np.float64), good
        )


def _classes(
    facts: Facts, batch: pa.RecordBatch, good: NDArray[np.bool_], judged: NDArray[np.bool_]
) -> list[int | None]:
    """Count the strongest classes heard in each clip; return the strongest one per row, if any."""
    flat, _, lengths = lists(batch["class_scores"])
    strongest: list[int | None] = [None] * batch.num_rows
    width = int(lengths.max()) if len(lengths) else 0
    rows = np.flatnonzero(lengths == width) if width else np.zeros(0, np.int64)
    if not len(rows):
        return strongest
    scores = flat[np.repeat(lengths == width, lengths)].reshape(-1, width)
    audible = scores >= HEARD
    top = strongest_first(scores, min(TOP_CLASSES, width))
    heard = np.take_along_axis(audible, top, axis=1)
    for is_good in (True, False):
        mine = (good[rows] == is_good) & judged[rows]
        classes, counts = np.unique(top[mine][heard[mine]], return_counts=True)
        facts.classes[is_good].update(dict(zip(classes.tolist(), counts.tolist(), strict=True)))
    facts.unheard += int((judged[rows] & ~heard[:, 0]).sum())
    for row in np.flatnonzero(heard[:, 0]).tolist():
        strongest[rows[row]] = int(top[row, 0])
    return strongest


def strongest_first(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of each row's `count` highest values, highest first; overwrites them."""
    rows = np.arange(len(scores))
    top = np.empty((len(scores), count), np.int64)
    for place in range(count):  # a few passes need far less memory than a sort
        top[:, place] = scores.argmax(axis=1)
        scores[rows, top[:, place]] = -np.inf
    return top


def _count_rules(facts: Facts, batch: pa.RecordBatch) -> None:
    """Count the rules of select that rejected clips break, by the reason they were given."""
    rejected = batch.filter(pc.equal(batch["status"], str(Status.REJECTED)))
    for reason, detail in zip(
        rejected["reason"].to_pylist(), rejected["detail"].to_pylist(), strict=True
    ):
        counts = facts.rules.setdefault(str(reason), Counter())
        for rule in rules_in(detail or ""):
            if rule in counts or len(counts) < MAX_RULES:
                counts[rule] += 1


def _count_labels(counts: Counter[str], labels: Iterable[str]) -> None:
    for label in set(labels):
        if label in counts or len(counts) < MAX_LABELS:
            counts[label] += 1


def _provenance(facts: Facts, batch: pa.RecordBatch, good: NDArray[np.bool_]) -> None:
    for (dataset, licence, status), rows in grouped(
        batch, ("dataset", "licence", "status")
    ).items():
        place = (dataset or "", licence or "")
        if place in facts.provenance or len(facts.provenance) < MAX_LABELS:
            facts.provenance.setdefault(place, Counter())[status] += rows
    for dataset, licence, text in grouped(
        batch.filter(pa.array(good)), ("dataset", "licence", "attribution")
    ):
        if text:
            known = facts.attributions.setdefault((dataset or "", licence or ""), set())
            known.add(text)
            if len(known) > EXAMPLES:
                known.remove(max(known))


def _shards(store: Store, dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each shard's name, split, number of clips, and bytes where they are known."""
    if not store.exists("shards/index.parquet"):
        return []
    files = dataset.get("files", {})
    counts = count_by(store, "shards/index.parquet", ("split", "shard"))
    return [
        {"split": split, "shard": shard, "clips": clips, **_bytes(files.get(shard))}
        for (split, shard), clips in sorted(counts.items())
    ]


def _bytes(file: dict[str, Any] | None) -> dict[str, int | None]:
    return {"bytes": file.get("bytes") if file else None}
