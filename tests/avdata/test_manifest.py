"""Manifests: reading, writing, refusing; one bad row never harms another."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from avdata.cli.manifest import app
from avdata.clip import KEY_PATTERN, MANIFEST_COLUMNS, Clip, Media, Member, Status
from avdata.errors import ManifestError, Reason
from avdata.manifest import iter_manifest, write_manifest
from avdata.manifest.keys import KeySet, default_key, default_source_id, safe_key
from avdata.tables import write_clips

YOUTUBE = "https://www.youtube.com/watch?v=---g-f_I2yQ"


def read(path: Path, content: str | bytes) -> list[Clip]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(iter_manifest(str(path)))


def outcomes(clips: list[Clip]) -> list[str]:
    return [clip.reason or "ok" for clip in clips]


# --- what a row means --------------------------------------------------------------------------


def test_only_url_is_required_and_defaults_come_from_it(tmp_path: Path) -> None:
    clips = read(tmp_path / "m.csv", f"url\n{YOUTUBE}\nhttp://h/a%20b.mp4?sig=1\nvideos/hike.mp4\n")
    youtube, http, local = clips
    assert youtube == Clip(key="---g-f_I2yQ-x", url=YOUTUBE, source_id="---g-f_I2yQ").after(
        "manifest", key=youtube.key
    )
    assert KEY_PATTERN.fullmatch(youtube.key)
    assert youtube.key.startswith("g-f_I2yQ-")
    assert http.url == "http://h/a%20b.mp4?sig=1"
    assert http.source_id.startswith("a-20b-")
    assert local.url == str(tmp_path / "videos/hike.mp4")
    assert local.key.startswith("hike-")
    # The id must not depend on where the manifest lies, only on what is written in it.
    (tmp_path / "elsewhere").mkdir()
    assert read(tmp_path / "elsewhere/m.csv", "url\nvideos/hike.mp4\n")[0].key == local.key


def test_all_columns_are_read_and_others_travel_in_attributes(tmp_path: Path) -> None:
    header = "key,url,source_id,dataset,start_s,end_ms,events_ms,split,labels,licence,attribution"
    row = "k1,/v.mp4,v,set,1.5,11500,2000|3000,train,dog barking|rain,CC BY 4.0,Ann"
    (clip,) = read(tmp_path / "m.csv", f"{header},camera,note\n{row},GoPro,\n")
    assert clip == Clip(
        key="k1",
        url="/v.mp4",
        source_id="v",
        dataset="set",
        start_ms=1500,
        end_ms=11500,
        events_ms=(2000, 3000),
        split="train",
        labels=("dog barking", "rain"),
        licence="CC BY 4.0",
        attribution="Ann",
        attributes={"camera": "GoPro"},
    )


@pytest.mark.parametrize(
    ("url", "video_id"),
    [
        ("https://youtu.be/abcdefghijk?t=3", "abcdefghijk"),
        ("http://m.youtube.com/watch?app=x&v=abcdefghi_-", "abcdefghi_-"),
        ("https://www.youtube.com/shorts/abcdefghijk", "abcdefghijk"),
        ("https://www.youtube-nocookie.com/embed/abcdefghijk", "abcdefghijk"),
    ],
)
def test_youtube_ids_are_found(url: str, video_id: str) -> None:
    assert default_source_id(url) == video_id


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/watch?v=abcdefghijkl",  # twelve characters
        "https://evil.com/https://youtu.be/abcdefghijk",
        "https://notyoutube.com/watch?v=abcdefghijk",
    ],
)
def test_other_urls_are_no_youtube_videos(url: str) -> None:
    assert default_source_id(url) != "abcdefghijk"


def test_key_is_dataset_source_and_start() -> None:
    assert default_key("vggsound", "abcdefghijk", 30000) == "vggsound-abcdefghijk-00030000"
    assert default_key("", "abcdefghijk", None) == "abcdefghijk"


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "concat:/etc/passwd|/a.mp4",
        "subfile:/etc/passwd",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "ftp://h/v.mp4",
        "data:video/mp4;base64,AAAA",
        "javascript:alert(1)",
        "s3://bucket/v.mp4",
        "http:/nohost",
        "http://",
        "https:///v.mp4",
        "http://h/v 1.mp4",
        "/a/\x00b.mp4",
        "/" + "a" * 5000,
        "  ",
        "",
    ],
)
def test_bad_urls(tmp_path: Path, url: str) -> None:
    lines = [json.dumps({"url": url, "key": "k"}), json.dumps({"url": "/good.mp4"})]
    bad, good = read(tmp_path / "m.jsonl", "\n".join(lines))
    assert (bad.status, bad.step, bad.reason) == (Status.FAILED, "manifest", Reason.BAD_URL)
    assert bad.detail.startswith("line 1: ")
    assert bad.key == "line-0000001"
    assert good.status is Status.ACTIVE


@pytest.mark.parametrize(
    "key",
    ["a/b", "..", "../../etc/x", "a.b", "-a", "a\x00b", "ключ", "a b", "k" * 161, "a\n", "/abs"],
)
def test_bad_keys_are_refused_never_changed(tmp_path: Path, key: str) -> None:
    lines = [
        json.dumps({"url": "/v.mp4", "key": key}),
        json.dumps({"url": "/v.mp4", "key": "_a-1"}),
    ]
    bad, good = read(tmp_path / "m.jsonl", "\n".join(lines))
    assert bad.reason == Reason.BAD_KEY
    assert KEY_PATTERN.fullmatch(bad.key)
    assert good.key == "_a-1"


@pytest.mark.parametrize(
    ("columns", "values", "told"),
    [
        ("start_ms,end_ms", "5000,5000", "5000"),
        ("start_ms,end_ms", "5000,4000", "5000"),
        ("start_ms,end_ms", ",0", "0 ms"),
        ("start_ms", "-1", "start_ms"),
        ("start_s", "-0.5", "start_s"),
        ("start_ms", "ten", "'ten'"),
        ("start_ms", "1.5", "1.5"),
        ("start_ms", "1_000", "1_000"),
        ("start_s", "nan", "nan"),
        ("start_s", "inf", "inf"),
        ("start_s", "1e300", "31 years"),
        ("start_ms", "9" * 30, "999"),
        ("start_s,start_ms", "1,1000", "both"),
        ("events_ms", "100|x|300", "'x'"),
        ("split", "../../etc", "split"),
    ],
)
def test_bad_values(tmp_path: Path, columns: str, values: str, told: str) -> None:
    bad, good = read(
        tmp_path / "m.csv",
        f"url,{columns}\n/v.mp4,{values}\n/w.mp4{',' * (columns.count(',') + 1)}\n",
    )
    assert bad.reason == Reason.BAD_ROW
    assert bad.detail.startswith("line 2: ")
    assert told in bad.detail
    assert good.status is Status.ACTIVE


@pytest.mark.parametrize(
    "row",
    [
        {"url": 7},
        {"url": "/v.mp4", "start_ms": True},
        {"url": "/v.mp4", "start_ms": [1]},
        {"url": "/v.mp4", "start_s": {"a": 1}},
        {"url": "/v.mp4", "labels": [1, 2]},
        {"url": "/v.mp4", "labels": {"a": 1}},
        {"url": "/v.mp4", "events_ms": 5},
        {"url": "/v.mp4", "attributes": [1]},
        {"url": "/v.mp4", "attributes": "no object"},
        {"url": "/v.mp4", "licence": "x" * 200_000},
    ],
)
def test_bad_types_in_jsonl(tmp_path: Path, row: dict[str, Any]) -> None:
    clips = read(tmp_path / "m.jsonl", json.dumps(row) + '\n{"url": "/good.mp4"}\n')
    assert outcomes(clips) == [Reason.BAD_ROW, "ok"]


def test_duplicate_keys_fail_and_keep_their_place(tmp_path: Path) -> None:
    clips = read(
        tmp_path / "m.csv", "url,key\n/a.mp4,k\n/b.mp4,k\n/c.mp4,line-0000003\n/a.mp4,\n/a.mp4,\n"
    )
    assert outcomes(clips) == ["ok", "duplicate_key", "duplicate_key", "ok", "duplicate_key"]
    assert len({clip.key for clip in clips}) == len(clips)
    assert clips[1].url == "/b.mp4"


# --- broken files ------------------------------------------------------------------------------


def test_missing_url_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no column `url`.*link, id, start") as raised:
        read(tmp_path / "m.csv", "link,id, start\nx,1,2\n")
    assert "--map link=url" in str(raised.value)


@pytest.mark.parametrize("header", ["url,url", "url,", "url,a,a"])
def test_ambiguous_columns(tmp_path: Path, header: str) -> None:
    with pytest.raises(ManifestError, match="unnamed or repeated"):
        read(tmp_path / "m.csv", header + "\n")


def test_empty_and_header_only(tmp_path: Path) -> None:
    for content in ("", "\n\n", "\ufeff"):
        with pytest.raises(ManifestError, match="is empty"):
            read(tmp_path / "m.csv", content)
    assert read(tmp_path / "m.csv", "url,key\n") == []
    assert read(tmp_path / "m.jsonl", "\n\n") == []


def test_bom_crlf_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfurl, key \r\n\r\n/a.mp4,a\r\n,\r\n   \r\n/b.mp4,b"
    clips = read(tmp_path / "m.csv", content)
    assert [clip.key for clip in clips] == ["a", "b"]
    jsonl = b'\xef\xbb\xbf{"url": "/a.mp4"}\r\n\r\n{"url": "/b.mp4"}'
    assert [clip.url for clip in read(tmp_path / "m.jsonl", jsonl)] == ["/a.mp4", "/b.mp4"]


def test_wrong_cell_counts(tmp_path: Path) -> None:
    clips = read(tmp_path / "m.csv", "url,key\n/a.mp4\n/b.mp4,b,extra\n/c.mp4,c\n")
    assert outcomes(clips) == [Reason.BAD_ROW, Reason.BAD_ROW, "ok"]
    assert clips[1].detail == "line 3: has 3 cells where the header has 2"


def test_bad_bytes_cost_their_own_line(tmp_path: Path) -> None:
    clips = read(tmp_path / "m.csv", b"url,labels\n/a.mp4,caf\xe9\n/b.mp4,caf\xc3\xa9\n")
    assert outcomes(clips) == [Reason.BAD_ROW, "ok"]
    assert "line 2: is not UTF-8: byte 0xe9" in clips[0].detail
    assert clips[1].labels == ("café",)
    with pytest.raises(ManifestError, match=r"header.*not UTF-8"):
        read(tmp_path / "m.csv", "url\n/a.mp4\n".encode("utf-16"))


def test_an_unclosed_quote_costs_its_own_line(tmp_path: Path) -> None:
    rows = [f"/{n}.mp4,k{n}" for n in range(2000)]
    rows[3] = '"/3.mp4,k3'
    clips = read(tmp_path / "m.csv", "url,key\n" + "\n".join(rows) + "\n")
    assert [n for n, clip in enumerate(clips) if clip.status is Status.FAILED] == [3]
    assert clips[3].detail.startswith("line 5: ")
    assert len(clips) == 2000
    # A quote further down closes it, and what lies between looks like one cell.
    rows[9] = '"/9.mp4",k9'
    clips = read(tmp_path / "m.csv", "url,key\n" + "\n".join(rows) + "\n")
    assert [n for n, clip in enumerate(clips) if clip.status is Status.FAILED] == [3]
    assert len(clips) == 2000


def test_quoted_cells_may_hold_newlines(tmp_path: Path) -> None:
    clips = read(tmp_path / "m.csv", 'url,note\n/a.mp4,"two\nlines"\n/b.mp4,x,y\n')
    assert clips[0].attributes == {"note": "two\nlines"}
    assert clips[1].detail.startswith("line 4: ")


@pytest.mark.parametrize("shape", ["one cell", "quoted", "many cells", "endless line"])
def test_ten_megabyte_cell(tmp_path: Path, shape: str) -> None:
    big = {
        "one cell": "/" + "a" * 10_000_000,
        "quoted": '"/' + "a" * 10_000_000 + '"',
        "many cells": "," * 10_000_000,
        "endless line": "\t".join(["x"] * 5_000_000),
    }[shape]
    path = tmp_path / "m.csv"
    path.write_text(f"url,key\n/a.mp4,a\n{big},b\n/c.mp4,c\n")
    tracemalloc.start()
    clips = list(iter_manifest(str(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcomes(clips) == ["ok", Reason.BAD_ROW, "ok"]
    assert clips[1].detail.startswith("line 3: ")
    assert clips[2].key == "c"
    assert peak < 9_000_000  # the cell was never held as a whole


def test_jsonl_with_broken_lines(tmp_path: Path) -> None:
    lines = [
        '{"url": "/a.mp4"}',
        '{"url": "/b.mp4"',
        "[1]",
        '{"url": "/c.mp4", "start_ms": NaN}',
        '{"url": "/\\ud800.mp4"}',
        '{"url": "/d.mp4", "start_ms": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"key": "no-url"}',
        '{"url": "/e.mp4"}',
    ]
    clips = read(tmp_path / "m.jsonl", "\n".join(lines))
    bad = [Reason.BAD_ROW] * 6 + [Reason.BAD_URL]
    assert outcomes(clips) == ["ok", *bad, "ok"]
    assert [clip.detail.split(":")[0] for clip in clips[1:-1]] == [f"line {n}" for n in range(2, 9)]


def test_truncated_files(tmp_path: Path) -> None:
    clips = [Clip(key=f"k{n}", url=f"/{n}.mp4", source_id=f"s{n}") for n in range(500)]
    for name in ("m.parquet", "m.csv.gz"):
        path = tmp_path / name
        write_manifest(str(path), clips)
        whole = path.read_bytes()
        for cut in (0, 3, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:cut])
            if name.endswith("gz") and cut == 0:
                continue  # nothing at all is valid gzip of nothing: "is empty"
            with pytest.raises(ManifestError, match=name):
                list(iter_manifest(str(path)))
        path.write_bytes(whole[: len(whole) // 2] + bytes(40) + whole[len(whole) // 2 + 40 :])
        with pytest.raises(ManifestError, match=name):
            list(iter_manifest(str(path)))


@pytest.mark.parametrize(
    "name", ["absent.csv", "absent.parquet", "folder.csv", "m.xlsx", "m", "x.parquet.gz"]
)
def test_unreadable_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ManifestError, match=name):
        list(iter_manifest(str(tmp_path / name)))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    rows = 8_000
    path.write_text("url,labels\n" + "".join(f"/{n}.mp4,rain|snow\n" for n in range(rows)))
    tracemalloc.start()
    assert sum(clip.status is Status.ACTIVE for clip in iter_manifest(str(path))) == rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * rows  # a list of the clips alone would need 700 bytes each


NOISE = st.lists(
    st.sampled_from([b"url,key\n", b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"/a.mp4", b"k", b"{"])
    | st.binary(max_size=6),
    max_size=40,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(noise=NOISE, header=st.booleans())
def test_noise_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, header: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("n.csv", "n.tsv", "n.jsonl", "n.csv.gz", "n.parquet"):
        (folder / name).write_bytes(b"url,key\n" * header + noise)
        try:
            clips = list(iter_manifest(str(folder / name)))
        except ManifestError:
            continue
        assert len({clip.key for clip in clips}) == len(clips)
        assert all(KEY_PATTERN.fullmatch(clip.key) for clip in clips)


@settings(max_examples=100, deadline=None)
@given(noise=NOISE)
def test_noise_between_two_rows_harms_neither(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "between.csv"
    path.write_bytes(b"url,key\n/first.mp4,first\n" + noise + b"\n/last.mp4,last\n")
    good = [clip.key for clip in iter_manifest(str(path)) if clip.status is Status.ACTIVE]
    assert good[0] == "first"
    assert good[-1] == "last"


# --- round trips -------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
labels = texts.filter(lambda text: "|" not in text)
times = st.integers(0, 10**9)


@st.composite
def clip_lists(draw: st.DrawFn) -> list[Clip]:
    keys = draw(st.lists(st.from_regex(KEY_PATTERN, fullmatch=True), unique=True, max_size=6))
    clips = []
    for key in keys:
        start = draw(st.none() | times)
        clips.append(
            Clip(
                key=key,
                url=draw(st.sampled_from([YOUTUBE, '/a b/c,"d".mp4', "https://h/ü?x=1#2"])),
                source_id=draw(texts),
                dataset=draw(st.just("") | texts),
                start_ms=start,
                end_ms=draw(st.none() | st.integers((start or 0) + 1, 10**10)),
                events_ms=tuple(draw(st.lists(times, max_size=3))),
                split=draw(st.sampled_from(["", "train", "val", "test"])),
                labels=tuple(draw(st.lists(labels, max_size=3))),
                licence=draw(st.just("") | texts),
                attributes=draw(
                    st.dictionaries(
                        texts.map(lambda text: "x" + text.strip()),
                        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
                        max_size=3,
                    )
                ),
            )
        )
    return clips


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clips=clip_lists())
def test_every_format_gives_the_same_clips_back(
    tmp_path_factory: pytest.TempPathFactory, clips: list[Clip]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    for name in ("m.csv", "m.tsv", "m.jsonl", "m.parquet", "m.csv.gz", "m.jsonl.gz"):
        assert write_manifest(str(folder / name), clips) == len(clips)
        assert list(iter_manifest(str(folder / name))) == clips


def test_written_files_are_deterministic_and_plain(tmp_path: Path) -> None:
    clips = [
        Clip(key="a", url="/a.mp4", source_id="a", attributes={"x": "1"}),
        Clip(key="b", url="/b.mp4", source_id="b", attributes={"y": "2"}),
    ]
    write_manifest(str(tmp_path / "m.csv"), clips)
    with open(tmp_path / "m.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == [*MANIFEST_COLUMNS, "x", "y"]
    assert [row[-2:] for row in table[1:]] == [["1", ""], ["", "2"]]
    write_manifest(str(tmp_path / "m.csv.gz"), clips)
    first = (tmp_path / "m.csv.gz").read_bytes()
    os.utime(tmp_path / "m.csv.gz", (0, 0))
    write_manifest(str(tmp_path / "m.csv.gz"), clips)
    assert (tmp_path / "m.csv.gz").read_bytes() == first
    assert gzip.decompress(first) == (tmp_path / "m.csv").read_bytes()


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    clip = Clip(key="a", url="/a.mp4", source_id="a")
    path = str(tmp_path / "m.csv")
    for bad in (
        clip.after("manifest", labels=("a|b",)),
        clip.after("manifest", attributes={"url": "x"}),
        clip.after("manifest", attributes={"x": "y" * 200_000}),
    ):
        with pytest.raises(ManifestError, match="clip a"):
            write_manifest(path, [clip, bad])
    with pytest.raises(ValueError, match="rejected"):
        write_manifest(path, [clip.rejected("select", Reason.BELOW_MIN, "")])
    assert list(tmp_path.iterdir()) == []


def test_a_clip_table_comes_back_with_all_it_carries(tmp_path: Path) -> None:
    media = Media("m.tar", Member(0, 9), "flac", 16000, 160000, 512, 512, ())
    clips = [
        Clip(key="a", url="rel.mp4", source_id="a").after("trim", media=media, measures={"x": 1.5}),
        Clip(key="b", url="/b.mp4", source_id="b").rejected("select", Reason.BELOW_MIN, "loud"),
    ]
    write_clips(tmp_path / "trim.parquet", clips)
    assert list(iter_manifest(str(tmp_path / "trim.parquet"))) == clips


def test_parquet_from_pandas(tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "url": ["/a.mp4", "/b.mp4", None],
            "start_ms": [1000.0, None, 3.0],
            "labels": [["rain"], None, ["x"]],
            "when": pd.to_datetime(["2020-01-02", None, None]),
            "take": [1, 2, 3],
        }
    )
    frame.to_parquet(tmp_path / "m.parquet")
    clips = list(iter_manifest(str(tmp_path / "m.parquet")))
    assert outcomes(clips) == ["ok", "ok", Reason.BAD_URL]
    assert (clips[0].start_ms, clips[1].start_ms) == (1000, None)
    assert clips[0].labels == ("rain",)
    assert clips[0].attributes["take"] == "1"
    assert clips[0].attributes["when"].startswith("2020-01-02")
    assert clips[2].detail.startswith("row 3: ")


def test_remote_manifests(tmp_path: Path) -> None:
    clips = [Clip(key="a", url="/a.mp4", source_id="a")]
    for name in ("m.csv", "m.parquet", "m.jsonl.gz"):
        write_manifest(f"memory://bucket/lists/{name}", clips)
        assert list(iter_manifest(f"memory://bucket/lists/{name}")) == clips
    import fsspec

    with fsspec.open("memory://bucket/rel.csv", "w") as file:
        file.write("url\nvideos/a.mp4\n")
    (bad,) = iter_manifest("memory://bucket/rel.csv")
    assert bad.reason == Reason.BAD_URL
    (good,) = iter_manifest("memory://bucket/rel.csv", base="/data")
    assert good.url == "/data/videos/a.mp4"
    (web,) = iter_manifest("memory://bucket/rel.csv", base="http://h/lists")
    assert web.url == "http://h/lists/videos/a.mp4"


# --- keys --------------------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_keys_made_from_anything_are_safe(text: str) -> None:
    key = safe_key(text)
    assert KEY_PATTERN.fullmatch(key)
    assert key == safe_key(text)
    assert os.path.basename(key) == key
    if KEY_PATTERN.fullmatch(text) and len(text) <= 120:
        assert key == text


@given(st.lists(st.text(max_size=8), unique=True, max_size=50))
def test_different_texts_get_different_keys(names: list[str]) -> None:
    assert len({safe_key(name) for name in names}) == len(names)


def test_near_names_get_different_keys() -> None:
    names = ["é", "è", "e", "-e", "e-", "e/", "/e", "..", ".", "", " ", "E", "é" * 200, "é" * 201]
    assert len({safe_key(name) for name in names}) == len(names)


@given(st.lists(st.text(max_size=3), max_size=300))
def test_key_set_is_a_set(names: list[str]) -> None:
    keys, seen = KeySet(), set[str]()
    for name in names:
        assert keys.add(name) == (name not in seen)
        seen.add(name)


def test_key_set_grows_without_forgetting() -> None:
    keys = KeySet()
    assert all(keys.add(f"key-{n}") for n in range(20_000))
    assert not any(keys.add(f"key-{n}") for n in range(20_000))


# --- the commands ------------------------------------------------------------------------------


def test_check_lists_bad_rows_and_writes_the_good_ones(tmp_path: Path) -> None:
    path, good = tmp_path / "m.csv", tmp_path / "good.jsonl"
    path.write_text("url,start_ms\n/a.mp4,0\nfile:///x,1\n/b.mp4,x\n/c.mp4,5\n")
    done = CliRunner().invoke(app, ["check", str(path), "--good", str(good)])
    assert done.exit_code == 1
    assert "bad_url: line 3: " in done.output
    assert "bad_row: line 4: " in done.output
    assert "2 good rows, 2 bad rows" in done.output
    assert [clip.url for clip in iter_manifest(str(good))] == ["/a.mp4", "/c.mp4"]
    assert CliRunner().invoke(app, ["check", str(good)]).exit_code == 0


def test_convert(tmp_path: Path) -> None:
    source = tmp_path / "m.csv"
    clips = read(source, f"url,labels\n{YOUTUBE},a|b\nrel/x.mp4,\n")
    target = tmp_path / "sub" / "m.parquet"
    assert CliRunner().invoke(app, ["convert", str(source), str(target)]).exit_code == 0
    assert list(iter_manifest(str(target))) == clips
    source.write_text("url\nfile:x\n/a.mp4\n")
    assert CliRunner().invoke(app, ["convert", str(source), str(target)]).exit_code == 1
    source.write_text("url\nfile:x\n")
    done = CliRunner().invoke(app, ["convert", str(source), str(target)])
    assert isinstance(done.exception, ManifestError)


def test_the_readme_describes_every_column_and_reason() -> None:
    text = (Path(__file__).resolve().parents[2] / "manifests/README.md").read_text()
    described = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert described[: len(MANIFEST_COLUMNS)] == list(MANIFEST_COLUMNS)
    assert {"bad_row", "bad_key", "duplicate_key", "bad_url"} <= set(described)
