"""Tables that other tools write: read where that is safe, refused or named where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avdata.cli.manifest import app
from avdata.clip import Clip, Status
from avdata.errors import ManifestError, Reason, SettingsError
from avdata.manifest import iter_manifest
from avdata.run.plan import make_plan
from avdata.store import Store

ID = "dQw4w9WgXcQ"
WATCH = f"https://www.youtube.com/watch?v={ID}"


def read(path: Path, content: str, **columns: str) -> list[Clip]:
    path.write_text(content)
    return list(iter_manifest(str(path), columns=columns))


def windows(clips: list[Clip]) -> list[Any]:
    return [clip.reason or (clip.url, clip.start_ms, clip.end_ms) for clip in clips]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("url,start,end,caption\n/a.mp4,1.5,3,hi\n", [("/a.mp4", 1500, 3000)]),
        ("url,start,end\n/a.mp4,00:01:30.5,1:35\n", [("/a.mp4", 90_500, 95_000)]),
        ("url,start_seconds,end_sec\n/a.mp4,2,3\n", [("/a.mp4", 2000, 3000)]),
        ("url,startMillis,end_msec\n/a.mp4,2,3\n", [("/a.mp4", 2, 3)]),
        ("URL,Start_MS,End_ms\n/a.mp4,2,3\n", [("/a.mp4", 2, 3)]),
        ("url,start,end\n/a.mp4,,\n", [("/a.mp4", None, None)]),
        (f"videoID,start_seconds,end_seconds\n{ID},30,40\n", [(WATCH, 30_000, 40_000)]),
        (f"youtube_id,label\n{ID},x\n", [(WATCH, None, None)]),
        (f"YTID\n{ID}\nnot-an-id\n", [(WATCH, None, None), Reason.BAD_URL]),
        (f"url\n{ID}\n", [(WATCH, None, None)]),
        (
            "url,clips\n/a.mp4,\"[[0.0, 5.0], ['00:00:10', '00:00:12.5']]\"\n/b.mp4,\n/c.mp4,x\n",
            [("/a.mp4", 0, 5000), ("/a.mp4", 10_000, 12_500), ("/b.mp4", None, None), "bad_row"],
        ),
    ],
)
def test_tables_of_other_tools_are_read(tmp_path: Path, table: str, expected: list[Any]) -> None:
    assert windows(read(tmp_path / "m.csv", table)) == expected


def test_a_local_file_called_like_a_youtube_id_stays_one(tmp_path: Path) -> None:
    (tmp_path / ID).write_bytes(b"x")
    (clip,) = read(tmp_path / "m.csv", f"url\n{ID}\n")
    assert clip.url == str(tmp_path / ID)


def test_lists_of_clips_in_jsonl_and_parquet_keep_their_keys_apart(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"url": "/a.mp4", "key": "k", "clips": [[0.5, 2.0], [2.0, 4.0]], "caption": "hi"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    (tmp_path / "m.jsonl").write_text(json.dumps(rows[0]))
    for name in ("m.parquet", "m.jsonl"):
        clips = list(iter_manifest(str(tmp_path / name)))
        assert [(c.key, c.start_ms, c.end_ms) for c in clips] == [
            ("k-00000500", 500, 2000),
            ("k-00002000", 2000, 4000),
        ]
        assert {c.attributes["caption"] for c in clips} == {"hi"}


def test_numbers_that_may_be_milliseconds_are_no_seconds(tmp_path: Path) -> None:
    table = "url,start,end\n/a.mp4,30000,40000\n/b.mp4,0,10000\n/c.mp4,40000,\n/d.mp4,30,40\n"
    clips = read(tmp_path / "m.csv", table)
    assert windows(clips) == ["bad_row"] * 3 + [("/d.mp4", 30_000, 40_000)]
    assert "start=start_ms" in clips[0].detail
    in_ms = read(tmp_path / "m.csv", table, start="start_ms", end="end_ms")
    assert windows(in_ms)[0] == ("/a.mp4", 30_000, 40_000)
    in_s = read(tmp_path / "m.csv", table, start="start_s", end="end_s")
    assert windows(in_s)[1] == ("/b.mp4", 0, 10_000_000)


@pytest.mark.parametrize(
    ("header", "column", "meant"),
    [
        ("start_time,end_ms", "start_time", "start_s"),
        ("t_start,t_end", "t_start", "start_s"),
        ("start_ms,end_time", "end_time", "end_s"),
        ("begin,x", "begin", "start_s"),
        ("strat_ms,end_ms", "strat_ms", "start_ms"),
        ("start_frame,x", "start_frame", "start_s"),
        ("timestamps,x", "timestamps", "clips"),
        ("start_s,duration", "duration", "end_s"),
    ],
)
def test_what_may_be_a_time_is_refused_until_it_is_mapped(
    tmp_path: Path, header: str, column: str, meant: str
) -> None:
    table = f"url,{header}\n/a.mp4,1,2\n"
    with pytest.raises(ManifestError, match=rf"'{column}'.*{meant}") as raised:
        read(tmp_path / "m.csv", table)
    assert f"--map {column}={column}" in str(raised.value)
    line = dict(zip(table.split("\n")[0].split(","), ("/a.mp4", 1, 2), strict=True))
    (row,) = read(tmp_path / "m.jsonl", json.dumps(line))
    assert row.reason == Reason.BAD_ROW
    assert column in row.detail


@pytest.mark.parametrize(
    "header",
    [
        "stars",
        "end_user",
        "video_duration",
        "startup",
        "upload_date",
        "timezone",
        "trend",
        "length",
    ],
)
def test_other_columns_are_attributes(tmp_path: Path, header: str) -> None:
    (clip,) = read(tmp_path / "m.csv", f"url,{header}\n/a.mp4,1\n")
    assert clip.attributes == {header: "1"}


def test_columns_that_are_not_understood_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(tmp_path / "m.csv", "url,caption,label,license\n/a.mp4,a,b,c\n")
    assert "caption, label (did you mean labels? --map label=labels), license (did" in caplog.text
    caplog.clear()
    read(tmp_path / "m.csv", "url,start\n/a.mp4,1\n")
    assert "start is read as seconds" in caplog.text
    caplog.clear()
    read(tmp_path / "m.csv", "url,start_s,labels\n/a.mp4,1,x\n")
    read(tmp_path / "m.csv", "url,start,label\n/a.mp4,1,x\n", start="start_s", label="labels")
    assert not caplog.text


def test_mapped_columns(tmp_path: Path) -> None:
    table = "link,begin,note\n/a.mp4,2,x\n"
    (clip,) = read(tmp_path / "m.csv", table, link="url", begin="start_s", note="labels")
    assert (clip.url, clip.start_ms, clip.labels) == ("/a.mp4", 2000, ("x",))
    (kept,) = read(tmp_path / "m.csv", table, link="url", begin="begin")
    assert kept.attributes == {"begin": "2", "note": "x"}
    with pytest.raises(ManifestError, match="no column 'bgin' to map"):
        read(tmp_path / "m.csv", table, link="url", bgin="start_s")
    with pytest.raises(ManifestError, match="repeated columns"):
        read(tmp_path / "m.csv", table, link="url", begin="url")


@pytest.mark.parametrize(
    ("first", "importer"),
    [
        (f'{ID},1,"people, marching",test', "vggsound"),
        (f"{ID}_000300.mp4,playing hammond organ", "vggsound"),
        (f"{ID}_1000_11000", "vggsound"),
        ("# Segments csv created Sun Mar  5 10:54:31 2017", "audioset"),
        (f'{ID}, 30.000, 40.000, "/m/09x0r,/m/05zppz"', "audioset"),
        ("ID,Snow,Forest,Rain,Duration", "into_the_wild"),
        ("dog/video_00001", "vas"),
    ],
)
def test_official_lists_point_at_their_importer(tmp_path: Path, first: str, importer: str) -> None:
    with pytest.raises(ManifestError, match=f"avdata manifest import {importer} FILE"):
        read(tmp_path / "m.csv", first + "\n" + first + "\n")


def test_the_real_lists_point_at_their_importer(shared_data: Path) -> None:
    lists = shared_data / "lists"
    for name, importer in (
        ("vggsound/hche11_test.csv", "vggsound"),
        ("audioset/eval_segments.csv", "audioset"),
        ("into_the_wild/metadata.csv", "into_the_wild"),
    ):
        with pytest.raises(ManifestError, match=f"import {importer} FILE"):
            next(iter_manifest(str(lists / name)))


def test_check_and_convert_take_a_map(tmp_path: Path) -> None:
    path, target = tmp_path / "m.csv", tmp_path / "out.csv"
    path.write_text("url,begin,finish\n/a.mp4,1,2\n")
    done = CliRunner().invoke(app, ["check", str(path)])
    assert isinstance(done.exception, ManifestError)
    mapped = ["--map", "begin=start_s", "--map", "finish=end_s"]
    assert CliRunner().invoke(app, ["check", str(path), *mapped]).exit_code == 0
    assert CliRunner().invoke(app, ["convert", str(path), str(target), *mapped]).exit_code == 0
    (clip,) = iter_manifest(str(target))
    assert (clip.start_ms, clip.end_ms) == (1000, 2000)
    done = CliRunner().invoke(app, ["check", str(path), "--map", "begin"])
    assert isinstance(done.exception, SettingsError)


def test_a_run_names_columns_and_takes_a_map(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("url,begin,caption\n/gone.mp4,1,x\n")
    (tmp_path / "p.yaml").write_text("manifest: m.csv\nname: p\n")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "avdata.cli", "run", "p.yaml", "--until", "fetch", *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = run()
    assert refused.returncode == 2
    assert "did you mean start_s?" in refused.stderr
    done = run("--map", "begin=start_s")
    assert done.returncode == 0, done.stderr
    assert "attributes, without a meaning of their own: caption" in done.stderr
    (clip,) = iter_manifest(str(tmp_path / "runs/p/fetch.parquet"))
    assert (clip.start_ms, clip.status) == (1000, Status.FAILED)


def test_a_plan_depends_on_the_map(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("url,start\n/a.mp4,5\n")
    store = Store(str(tmp_path / "run"))
    first = make_plan(store, str(tmp_path / "m.csv"))
    second = make_plan(store, str(tmp_path / "m.csv"), columns={"start": "start_ms"})
    assert first.parts != second.parts
    assert os.path.exists(store.full(f"parts/{second.parts[0]}.parquet"))
