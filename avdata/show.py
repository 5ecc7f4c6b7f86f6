"""Look into a run, a table, one clip or a shard, in the terminal."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from avdata.clip import Clip, Status, one_line
from avdata.errors import AvdataError, StoreError
from avdata.report import charts
from avdata.report.facts import StepFacts, collect_steps, count_by, read_json
from avdata.report.gallery import top_tags
from avdata.report.page import yamnet_class_names
from avdata.report.sample import clips_at
from avdata.store import Store
from avdata.tables import iter_batches

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    Status.ACTIVE: "cyan",
    Status.ACCEPTED: "green",
    Status.REJECTED: "yellow",
    Status.FAILED: "red",
    Status.EXPANDED: "dim",
}
LISTED = "key status step reason detail url".split()
MATCHES = 20


def show(
    path: str, key: str | None = None, *, limit: int = 20, image: Path | None = None, console: Console
) -> None:
    """Print what lies at `path`: a run folder, a clip table (.parquet) or a shard (.tar).

    With `key`, print that clip's whole record; with `image` also draw its contact sheet there.
    `limit` bounds the rows listed. Raises AvdataError for what is not there.
    """
    if image and not key:
        raise AvdataError(f"--image draws one clip: give its key, avdata show {path} KEY --image")
    if path.endswith(".tar"):
        if image:
            raise AvdataError("--image needs the run folder or a clip table, not a shard")
        _show_shard(path, key, limit, console)
    elif path.endswith(".parquet"):
        store, name = _split(path)
        if not store.exists(name):
            raise StoreError(f"there is no table {path}")
        if key:
            # A table in a run's folder names its media relative to that folder.
            _show_clips(store, name, key, image, console)
        else:
            _show_table(store, name, limit, console)
    else:
        _show_run(path, key, image, console)


def print_summary(summary: Mapping[str, Any], console: Console) -> None:
    """Print the counts of a run's summary.json per step, and its shards."""
    table = _table("step", "in", "out", *map(str, Status), "time", "reasons", numbers=range(1, 8))
    for step in summary.get("steps", ()):
        counts = step["by_status"]
        table.add_row(
            step["name"],
            charts.whole(step["rows_in"]),
            charts.whole(step["rows_out"]),
            *(_count(counts.get(str(s), 0), STYLES[s]) for s in Status),
            charts.seconds_text(step["seconds"]),
            _reasons(step["by_reason"]),
        )
    console.print(table)
    if shards := summary.get("shards"):
        console.print(_shard_table(shards))
    if crashed := summary.get("crashed_parts"):
        console.print(Text(f"{len(crashed)} parts crashed; a rerun tries only these", "bold red"))


def contact_sheet(store: Store, clip: Clip, target: Path) -> None:
    """Write a picture of one clip: waveform, spectrogram, frames with the picks marked."""
    from avdata.report.sheet import draw_sheet

    target.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(store, clip).save(target)


def _show_run(path: str, key: str | None, image: Path | None, console: Console) -> None:
    store = Store(path)
    summary = read_json(store, "summary.json")
    steps = collect_steps(store, summary)
    if not steps:
        raise StoreError(
            f"{path} is no run folder: it has none of the tables fetch.parquet, trim.parquet, "
            "tag.parquet, select.parquet"
        )
    if key:
        _show_clips(store, f"{steps[-1].name}.parquet", key, image, console)
        return
    title = summary.get("name") or path
    console.print(Text.assemble((_clean(title), "bold"), f"  {path}"))
    console.print(_steps_table(steps))
    if summary.get("shards"):
        console.print(_shard_table(summary["shards"]))
    console.print(Text(f"avdata show {path} KEY shows a clip; avdata report {path}", "dim"))


def _steps_table(steps: Sequence[StepFacts]) -> Table:
    names = ("step", "in", "cut", "rejected", "failed", "replaced", "go on", "reasons")
    table = _table(*names, numbers=range(1, 7))
    for step in steps:
        reasons: dict[str, int] = {}
        for (_, reason), rows in step.reasons().items():
            reasons[reason] = reasons.get(reason, 0) + rows
        table.add_row(
            step.name,
            charts.whole(step.active_in),
            _count(step.children, ""),
            *(_count(step.here(s), STYLES[s]) for s in (Status.REJECTED, Status.FAILED)),
            _count(step.here(Status.EXPANDED), "dim"),
            Text(charts.whole(step.active_out), "bold green"),
            _reasons(reasons),
        )
    return table


def _shard_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("split", "clips", "sources", "shards", "size", numbers=range(1, 5))
    for name, split in splits.items():
        counts = (charts.whole(split.get(n, 0)) for n in ("clips", "sources", "shards"))
        table.add_row(_clean(name), *counts, charts.bytes_text(split.get("bytes", 0)))
    return table


def _show_table(store: Store, name: str, limit: int, console: Console) -> None:
    columns = _columns(store, name)
    clips = {"status", "step", "reason"} <= set(columns)
    if clips:
        counts = count_by(store, name, ("status", "step", "reason"))
        table = _table("status", "step", "reason", "rows", numbers=(3,))
        for (status, step, reason), rows in sorted(counts.items(), key=lambda c: -c[1]):
            style = STYLES.get(status, "")
            table.add_row(
                Text(_clean(status), style), _clean(step), _clean(reason), charts.whole(rows)
            )
        console.print(table)
    shown = [c for c in LISTED if c in columns] if clips else columns[:8]
    rows = _table(*shown)
    left = limit
    for batch in iter_batches(store, name, shown):
        for row in batch.slice(0, left).to_pylist():
            rows.add_row(*(_styled(c, row[c]) for c in shown))
        left -= min(left, batch.num_rows)
        if not left:
            break
    console.print(rows)


def _show_clips(
    store: Store, table: str, key: str, image: Path | None, console: Console
) -> None:
    positions = _find(store, table, key)
    clips = list(clips_at(store, table, positions).values())
    if not clips:
        raise AvdataError(
            f"no clip {key!r} in {store.full(table)}; `avdata show {store.full(table)}` lists some"
        )
    for clip in clips:
        _show_clip(clip, console)
    if image:
        drawable = next((c for c in clips if c.media), None)
        if drawable is None:
            raise AvdataError(f"clip {key!r} has no media to draw: it is {clips[0].status}")
        contact_sheet(store, drawable, image)
        console.print(Text(f"contact sheet: {image}"))


def _find(store: Store, table: str, key: str) -> list[int]:
    """Return the rows with this key; several when a manifest repeated it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: list[int] = []
    first = 0
    for batch in iter_batches(store, table, ["key"]):
        hits = pc.indices_nonzero(pc.equal(batch["key"], pa.scalar(key)))
        found += [first + int(i) for i in hits.to_pylist()]
        first += batch.num_rows
        if len(found) >= MATCHES:
            break
    return found[:MATCHES]


def _show_clip(clip: Clip, console: Console) -> None:
    console.print(
        Text.assemble((clip.key, "bold"), "  ", (str(clip.status), STYLES[clip.status]))
    )
    record = Table.grid(padding=(0, 2))
    for name, value in _record(clip):
        record.add_row(Text(name, "dim"), _clean(value, 2000))
    console.print(record)
    if clip.media and clip.media.frames:
        console.print(_frames_table(clip))


def _record(clip: Clip) -> Iterator[tuple[str, Any]]:
    """Give every field that says something, nested ones with dotted names."""
    row = clip.to_row()
    for name in ("class_scores", "class_scores_max"):
        del row[name]
    for name, value in row.items():
        if isinstance(value, dict):
            for inner, part in value.items():
                if inner not in ("frames", "frame_scores", "maps"):
                    yield f"{name}.{inner}", part
        elif name in ("attributes", "measures"):
            for inner, part in value:
                yield f"{name}.{inner}", f"{part:.6g}" if isinstance(part, float) else part
        elif value not in ("", None, (), []):
            yield name, ", ".join(map(str, value)) if isinstance(value, tuple) else value
    for tag in top_tags(clip, yamnet_class_names(), 5):
        yield "heard", f"{tag.score:.3f} {tag.name}"


def _frames_table(clip: Clip) -> Table:
    table = _table("frame", "time", "score", "pick", numbers=range(4))
    selection = clip.selection
    ranks = {i: n + 1 for n, i in enumerate(selection.picks)} if selection else {}
    for i, frame in enumerate(clip.media.frames if clip.media else ()):
        scored = selection is not None and i < len(selection.frame_scores)
        score = f"{selection.frame_scores[i]:.4g}" if selection and scored else ""
        pick = f"pick {ranks[i]}" if i in ranks else ""
        table.add_row(
            str(i), f"{frame.t_s:.3f} s", score, pick, style="bold green" if pick else ""
        )
    return table


def _show_shard(path: str, key: str | None, limit: int, console: Console) -> None:
    store, name = _split(path)
    if not store.exists(name):
        raise StoreError(f"there is no shard {path}")
    table = _table("key", "members", "size", numbers=(2,))
    samples = found = 0
    try:
        for sample, members, record in _samples(store, name, key):
            samples += 1
            if key == sample:
                found += 1
                console.print(Text(sample, "bold"))
                console.print_json(json.dumps(record, ensure_ascii=True))
            if not key and samples <= limit:
                size = charts.bytes_text(sum(members.values()))
                table.add_row(_clean(sample), _clean(" ".join(members)), size)
    except (tarfile.TarError, ValueError) as error:
        raise AvdataError(f"{path} is not a readable shard: {error}") from None
    if key and not found:
        raise AvdataError(f"no sample {key!r} in {path}; it holds {samples} others")
    if not key:
        console.print(table)
        console.print(Text(f"{charts.whole(samples)} samples", "dim"))


def _samples(
    store: Store, name: str, wanted: str | None
) -> Iterator[tuple[str, dict[str, int], Any]]:
    """Give (key, member sizes by extension, the wanted sample's json) in the order of the tar."""
    key, members, record = "", {}, None
    with store.open(name) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        for info in tar:
            if not info.isfile():
                continue
            stem, _, extension = info.name.partition(".")
            if stem != key and members:
                yield key, members, record
                members, record = {}, None
            key = stem
            members[extension] = info.size
            if stem == wanted and extension == "json":
                content = tar.extractfile(info)
                record = json.loads(content.read()) if content else None
        if members:
            yield key, members, record


def _split(path: str) -> tuple[Store, str]:
    folder, _, name = path.rpartition("/")
    return Store(folder or "."), name


def _columns(store: Store, name: str) -> list[str]:
    import pyarrow.parquet as pq

    with store.open(name) as file:
        return list(pq.read_schema(file).names)


def _table(*names: str, numbers: Sequence[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(names):
        table.add_column(Text(name), justify="right" if index in numbers else "left")
    return table


def _clean(value: Any, limit: int = 120) -> Text:
    """Return text that can neither style nor steer the terminal."""
    return Text("" if value is None else one_line(str(value), limit))


def _styled(column: str, value: Any) -> Text:
    text = _clean(value)
    if column == "status":
        text.stylize(STYLES.get(str(value), ""))  # type: ignore[call-overload]
    return text


def _count(value: int, style: str) -> Text:
    return Text(charts.whole(value), style) if value else Text("·", "dim")


def _reasons(counts: Mapping[str, int]) -> Text:
    ordered = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    return _clean(", ".join(f"{reason} {rows}" for reason, rows in ordered), 200)
