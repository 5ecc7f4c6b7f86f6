"""Clip tables from outside: what a step wrote passes, whatever else stands in one is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avdata.clip import Clip, Status, clip_schema
from avdata.errors import ManifestError, Reason
from avdata.manifest import iter_manifest
from avdata.run.plan import make_plan, part_path
from avdata.store import Store
from avdata.tables import read_clips
from tests.report_factory import FakeRun, make_run, manifest


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return make_run(tmp_path_factory.mktemp("finished") / "run", manifest(10))


def rows_of(run: FakeRun, table: str) -> list[dict[str, Any]]:
    rows = pq.read_table(run.root / f"{table}.parquet").to_pylist()
    for row in rows:  # as dicts, so that a test can change a value
        row["attributes"], row["measures"] = dict(row["attributes"]), dict(row["measures"])
    return rows


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    maps = ("attributes", "measures")
    plain = [{**row, **{name: list(row[name].items()) for name in maps}} for row in rows]
    pq.write_table(pa.Table.from_pylist(plain, clip_schema()), path)
    return str(path)


@pytest.mark.parametrize("table", ["fetch", "trim", "tag", "select"])
def test_what_the_steps_wrote_comes_back_unchanged(finished: FakeRun, table: str) -> None:
    clips = list(iter_manifest(str(finished.root / f"{table}.parquet")))
    assert clips == read_clips(finished.store, f"{table}.parquet")
    assert [(c.key, c.status) for c in clips] == [(c.key, c.status) for c in finished.tables[table]]


def changed(row: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        row = row[int(name) if name.isdigit() else name]
    row[last] = value  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("key", "../../etc/x", Reason.BAD_KEY),
        ("key", None, Reason.BAD_KEY),
        ("key", "", Reason.BAD_KEY),
        ("status", "great", Reason.BAD_ROW),
        ("status", None, Reason.BAD_ROW),
        ("step", "../x", Reason.BAD_ROW),
        ("url", "file:///etc/passwd", Reason.BAD_URL),
        ("url", None, Reason.BAD_ROW),
        ("source_id", None, Reason.BAD_ROW),
        ("split", "../../x", Reason.BAD_ROW),
        ("start_ms", -5, Reason.BAD_ROW),
        ("end_ms", 2**60, Reason.BAD_ROW),
        ("events_ms", [-1], Reason.BAD_ROW),
        ("events_ms", [None], Reason.BAD_ROW),
        ("labels", [None], Reason.BAD_ROW),
        ("class_scores", [None], Reason.BAD_ROW),
        ("measures", {"loudness_lufs": None}, Reason.BAD_ROW),
        ("source.path", "/etc/passwd", Reason.BAD_ROW),
        ("source.path", "../other/media/a.mp4", Reason.BAD_ROW),
        ("source.path", "media/a\0.mp4", Reason.BAD_ROW),
        ("source.path", "s3://bucket/media/a.mp4", Reason.BAD_ROW),
        ("source.path", None, Reason.BAD_ROW),
        ("source.duration_ms", -1, Reason.BAD_ROW),
        ("source.fps", float("nan"), Reason.BAD_ROW),
        ("media.path", "/etc/shadow", Reason.BAD_ROW),
        ("media.path", "work/../../secret.tar", Reason.BAD_ROW),
        ("media.audio_format", "../../../tmp/x", Reason.BAD_ROW),
        ("media.audio", None, Reason.BAD_ROW),
        ("media.audio.offset", -1, Reason.BAD_ROW),
        ("media.audio.bytes", 2**60, Reason.BAD_ROW),
        ("media.sample_rate_hz", 0, Reason.BAD_ROW),
        ("media.frames.0.offset", -512, Reason.BAD_ROW),
        ("media.frames.0.t_s", float("inf"), Reason.BAD_ROW),
        ("media", None, Reason.BAD_ROW),
        ("selection.picks", [999], Reason.BAD_ROW),
        ("selection.frame_scores", [1.0], Reason.BAD_ROW),
        ("selection.map_height", 10**6, Reason.BAD_ROW),
        ("selection", None, Reason.BAD_ROW),
    ],
)
def test_a_row_that_no_step_wrote_is_refused_and_harms_no_other(
    finished: FakeRun, tmp_path: Path, path: str, value: Any, reason: Reason
) -> None:
    rows = rows_of(finished, "select")
    at = next(n for n, row in enumerate(rows) if row["status"] == "accepted")
    if path == "selection.map_height":
        rows[at]["selection"]["maps"] = [[0.5]]
    changed(rows[at], path, value)
    clips = list(iter_manifest(written(tmp_path / "select.parquet", rows)))
    assert (clips[at].status, clips[at].step, clips[at].reason) == ("failed", "manifest", reason)
    assert clips[at].detail.startswith(f"row {at + 1}: ")
    assert clips[at].media is None
    others = [clip for n, clip in enumerate(clips) if n != at]
    before = read_clips(finished.store, "select.parquet")
    assert others == [clip for n, clip in enumerate(before) if n != at]


def test_rejected_rows_cannot_name_strange_files_either(finished: FakeRun, tmp_path: Path) -> None:
    rows = rows_of(finished, "select")
    at = next(n for n, row in enumerate(rows) if row["status"] == "rejected")
    rows[at]["media"]["path"] = "/etc/passwd"  # the report shows pictures of rejected clips
    assert list(iter_manifest(written(tmp_path / "x.parquet", rows)))[at].reason == "bad_row"


def test_repeated_keys_are_refused(finished: FakeRun, tmp_path: Path) -> None:
    rows = rows_of(finished, "select")
    rows[1]["key"] = rows[0]["key"]
    clips = list(iter_manifest(written(tmp_path / "x.parquet", rows)))
    assert clips[1].reason == Reason.DUPLICATE_KEY
    assert len({clip.key for clip in clips}) == len(clips)


def test_columns_of_another_type_make_no_clip_table(finished: FakeRun, tmp_path: Path) -> None:
    table = pq.read_table(finished.root / "select.parquet")
    at = table.schema.get_field_index("source")
    text = pa.array(["x"] * table.num_rows)
    pq.write_table(table.set_column(at, "source", text), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match=r"x\.parquet cannot be read"):
        list(iter_manifest(str(tmp_path / "x.parquet")))


def test_tables_of_a_run_made_from_another_runs_table_stay_readable(
    finished: FakeRun, tmp_path: Path
) -> None:
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))
    shutil.copytree(finished.root, first)

    def planned(table: str, folder: str) -> list[Clip]:
        store = Store(folder)
        plan = make_plan(store, table)
        return [clip for name in plan.parts for clip in read_clips(store, part_path(name))]

    from_first = planned(f"{first}/trim.parquet", second)
    whole = [clip for clip in from_first if clip.media]
    assert {Path(clip.media.path).parent for clip in whole if clip.media} == {
        Path(first, "work/trim")
    }
    rows = [{**clip.to_row(), "attributes": {}, "measures": {}} for clip in from_first]
    table = written(Path(second, "trim.parquet"), rows)
    # Again in the same folder, then in a third one: the media still lie in the first.
    for folder in (second, second, third):
        clips = planned(table, folder)
        assert not [c for c in clips if c.step == "manifest" and c.detail.startswith("row")]
    # The same table on its own says nothing about where its media may lie.
    (tmp_path / "elsewhere").mkdir()
    alone = shutil.copy(table, tmp_path / "elsewhere/trim.parquet")
    refused = [c for c in iter_manifest(str(alone)) if c.reason == Reason.BAD_ROW]
    assert len(refused) >= len(whole)


def test_homes_that_are_no_list_of_folders_are_none(finished: FakeRun, tmp_path: Path) -> None:
    rows = rows_of(finished, "select")
    at = next(n for n, row in enumerate(rows) if row["media"])
    rows[at]["media"]["path"] = "/etc/passwd"
    for homes in ("[", "[" * 20_000, json.dumps([None, 5, ""])):
        (tmp_path / "homes.json").write_text(homes)
        clips = list(iter_manifest(written(tmp_path / "x.parquet", rows)))
        assert clips[at].reason == Reason.BAD_ROW


def test_every_part_of_a_clip_is_checked(finished: FakeRun, tmp_path: Path) -> None:
    """Each number and text of an accepted clip set to null gives a failed row, or its default."""
    rows = rows_of(finished, "select")
    at = next(n for n, row in enumerate(rows) if row["status"] == "accepted")
    accepted = next(c for c in finished.final if c.status is Status.ACCEPTED)
    parts = [("source", name) for name in asdict(accepted.source)]  # type: ignore[call-overload]
    parts += [("media", name) for name in asdict(accepted.media) if name != "video"]  # type: ignore[call-overload]
    for part, name in parts:
        before = rows[at][part][name]
        rows[at][part][name] = None
        clips = list(iter_manifest(written(tmp_path / "x.parquet", rows)))
        assert clips[at].reason == Reason.BAD_ROW, (part, name)
        rows[at][part][name] = before
