"""Parts keep sources whole, lose nothing, and barely move when a row is inserted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avdata.clip import Clip, Media, Member, Source
from avdata.errors import ManifestError
from avdata.run.plan import cut, make_plan, part_path
from avdata.steps.base import by_source
from avdata.store import Store
from avdata.tables import read_clips, write_clips


def clip(number: int, source: int) -> Clip:
    return Clip(key=f"k{number}", url=f"http://127.0.0.1/{source}.mp4", source_id=str(source))


@given(st.lists(st.integers(0, 30), max_size=120), st.integers(1, 16))
def test_parts_hold_every_clip_once_and_never_cut_a_source(sources: list[int], size: int) -> None:
    clips = [clip(i, source) for i, source in enumerate(sources)]
    parts = list(cut(by_source(clips), size))
    assert sorted(c.key for part in parts for c in part) == sorted(c.key for c in clips)
    where = [{c.url for c in part} for part in parts]
    assert sum(map(len, where)) == len(set().union(*where)) if where else True


def test_a_row_on_top_changes_few_parts() -> None:
    clips = [clip(i, i) for i in range(4000)]
    before = {tuple(c.key for c in part) for part in cut(by_source(clips), 32)}
    after = {tuple(c.key for c in part) for part in cut(by_source([clip(9999, 9999), *clips]), 32)}
    assert len(before) > 60
    assert len(before - after) <= 2


def write_manifest(path: Path, sources: int, clips_each: int = 3) -> None:
    lines = ["url,start_ms,end_ms"]
    for source in range(sources):
        for i in range(clips_each):
            url = f"http://127.0.0.1/v{source}.mp4"
            lines.append(f"{url},{i * 1000},{i * 1000 + 1000}")
    path.write_text("\n".join(lines) + "\n")


def test_plan_of_a_manifest_is_complete_and_made_once(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", 200)
    store = Store(str(tmp_path / "run"))
    plan = make_plan(store, str(tmp_path / "m.csv"))
    assert (plan.rows, plan.bad_rows, plan.reached) == (600, 0, "manifest")
    keys = [c.key for name in plan.parts for c in read_clips(store, part_path(name))]
    assert len(keys) == len(set(keys)) == 600
    written = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run/parts").iterdir()}
    assert make_plan(store, str(tmp_path / "m.csv")) == plan
    with (tmp_path / "m.csv").open("a") as file:
        file.write("http://127.0.0.1/new.mp4,0,1000\n")
    longer = make_plan(store, str(tmp_path / "m.csv"))
    assert longer.rows == 601
    same = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run/parts").iterdir()}
    assert {k: v for k, v in same.items() if k in written} == written


def test_a_long_manifest_is_spilled_and_still_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avdata.run.plan.BUCKET_BYTES", 2000)
    monkeypatch.setattr("avdata.run.plan.SPILL_CLIPS", 7)
    write_manifest(tmp_path / "m.csv", 150)
    store = Store(str(tmp_path / "run"))
    plan = make_plan(store, str(tmp_path / "m.csv"))
    parts = [read_clips(store, part_path(name)) for name in plan.parts]
    keys = [c.key for part in parts for c in part]
    assert len(keys) == len(set(keys)) == 450
    assert sum(len({c.url for c in part}) for part in parts) == 150


def test_a_table_from_another_folder_keeps_finding_its_media(tmp_path: Path) -> None:
    source = Source("media/a.mp4", "0" * 64, 1, 1, 1, 1, 1.0, 0, "h264", "aac", 1, 1)
    media = Media("work/trim/x.tar", Member(0, 1), "flac", 16000, 1, 1, 1, ())
    (tmp_path / "old").mkdir()
    write_clips(
        tmp_path / "old/trim.parquet",
        [Clip(key="a", url="u.mp4", source_id="s", step="trim", source=source, media=media)],
    )
    store = Store(str(tmp_path / "new"))
    plan = make_plan(store, str(tmp_path / "old/trim.parquet"))
    assert plan.reached == "trim"
    (row,) = read_clips(store, part_path(plan.parts[0]))
    assert row.source is not None
    assert row.media is not None
    assert row.source.path == str(tmp_path / "old/media/a.mp4")
    assert row.media.path == str(tmp_path / "old/work/trim/x.tar")


def test_a_manifest_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    with pytest.raises(ManifestError, match=r"nothing\.csv"):
        make_plan(store, str(tmp_path / "nothing.csv"))
    (tmp_path / "empty.csv").write_text("url\n")
    with pytest.raises(ManifestError, match="holds no row"):
        make_plan(store, str(tmp_path / "empty.csv"))


@pytest.mark.parametrize(
    ("rows", "least", "most"),
    # A part alone costs what some ten clips cost; but twice as many parts as cores keep them busy.
    [(60, 30, 60), (500, 100, 500), (5_000, 500, 1500)],
)
def test_parts_are_many_where_rows_are_many(
    tmp_path: Path, rows: int, least: int, most: int
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("url\n" + "".join(f"/v/{number}.mp4\n" for number in range(rows)))
    plan = make_plan(Store(str(tmp_path / "run")), str(manifest))
    assert least <= len(plan.parts) <= most
