"""Look into a run, a table, one clip or a shard, in the terminal."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from avdata.cli.terminal import (
    STYLES,
    clean,
    plain_table,
    print_summary,
    styled,
)
from avdata.clip import Clip
from avdata.errors import AvdataError, StoreError
from avdata.measures import class_names
from avdata.parsing import parse_json
from avdata.report import charts
from avdata.report.gallery import top_tags
from avdata.report.sample import clips_at
from avdata.report.sheet import draw_sheet
from avdata.report.steps import collect_steps, count_by, read_json
from avdata.store import Store
from avdata.tables import column_names, iter_batches

if TYPE_CHECKING:
    from rich.console import Console

LISTED = ["key", "status", "step", "reason", "detail", "url"]
MATCHES = 20


def show(
    path: str,
    key: str | None = None,
    *,
    limit: int = 20,
    image: Path | None = None,
    console: Console,
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
    console.print(Text.assemble((clean(title).plain, "bold"), f"  {path}"))
    # Counted in the tables, which are there even where a run was stopped before its summary.
    counted = [step.to_tree() for step in steps if step.name != "manifest"]
    print_summary({**summary, "steps": counted}, console)
    console.print(Text(f"avdata show {path} KEY shows a clip; avdata report {path}", "dim"))


def _show_table(store: Store, name: str, limit: int, console: Console) -> None:
    columns = column_names(store, name)
    clips = {"status", "step", "reason"} <= set(columns)
    if clips:
        counts = count_by(store, name, ("status", "step", "reason"))
        table = plain_table("status", "step", "reason", "rows", numbers=(3,))
        for (status, step, reason), number in sorted(counts.items(), key=lambda c: -c[1]):
            style = STYLES.get(status, "")
            table.add_row(
                Text(clean(status).plain, style), clean(step), clean(reason), charts.whole(number)
            )
        console.print(table)
    shown = [c for c in LISTED if c in columns] if clips else columns[:8]
    rows = plain_table(*shown)
    left = limit
    for batch in iter_batches(store, name, shown):
        for row in batch.slice(0, left).to_pylist():
            rows.add_row(*(styled(c, row[c]) for c in shown))
        left -= min(left, batch.num_rows)
        if not left:
            break
    console.print(rows)


def _show_clips(store: Store, table: str, key: str, image: Path | None, console: Console) -> None:
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
        image.parent.mkdir(parents=True, exist_ok=True)
        draw_sheet(store, drawable).save(image)
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
    console.print(Text.assemble((clip.key, "bold"), "  ", (str(clip.status), STYLES[clip.status])))
    record = Table.grid(padding=(0, 2))
    for name, value in _record(clip):
        record.add_row(Text(name, "dim"), clean(value, 2000))
    console.print(record)
    if clip.media and clip.media.frames:
        console.print(_frames_table(clip))


def _record(clip: Clip) -> Iterator[tuple[str, str]]:
    """Give every field that says something, nested ones with dotted names."""
    row = clip.to_row()
    for name in ("class_scores", "class_scores_max"):
        del row[name]
    for name, value in row.items():
        if isinstance(value, dict):
            for inner, part in value.items():
                if inner not in ("frames", "frame_scores", "maps"):
                    yield f"{name}.{inner}", _value(part)
        elif name in ("attributes", "measures"):
            for inner, part in value:
                yield f"{name}.{inner}", _value(part)
        elif value not in ("", None, ()):
            yield name, _value(value)
    for tag in top_tags(clip, class_names(), 5):
        yield "heard", f"{tag.score:.3f} {tag.name}"


def _value(value: Any) -> str:
    if isinstance(value, dict):  # a member of the media tar
        return f"{charts.whole(value['bytes'])} bytes at {charts.whole(value['offset'])}"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value or "–")


def _frames_table(clip: Clip) -> Table:
    table = plain_table("frame", "time", "score", "pick", numbers=range(4))
    selection = clip.selection
    ranks = {i: n + 1 for n, i in enumerate(selection.picks)} if selection else {}
    for i, frame in enumerate(clip.media.frames if clip.media else ()):
        scored = selection is not None and i < len(selection.frame_scores)
        score = f"{selection.frame_scores[i]:.4g}" if selection and scored else ""
        pick = f"pick {ranks[i]}" if i in ranks else ""
        table.add_row(str(i), f"{frame.t_s:.3f} s", score, pick, style="bold green" if pick else "")
    return table


def _show_shard(path: str, key: str | None, limit: int, console: Console) -> None:
    store, name = _split(path)
    if not store.exists(name):
        raise StoreError(f"there is no shard {path}")
    table = plain_table("key", "members", "size", numbers=(2,))
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
                table.add_row(clean(sample), clean(" ".join(members)), size)
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
    key, record = "", None
    members: dict[str, int] = {}
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
                record = parse_json(content.read()) if content else None
        if members:
            yield key, members, record


def _split(path: str) -> tuple[Store, str]:
    folder, _, name = path.rpartition("/")
    return Store(folder or "."), name
