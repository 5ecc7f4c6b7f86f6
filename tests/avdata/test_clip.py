"""The record and its schema are one and the same thing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from avdata.clip import (
    KEY_PATTERN,
    Clip,
    Frame,
    Media,
    Member,
    Selection,
    Source,
    Status,
    child_key,
    clip_schema,
    one_line,
)
from avdata.errors import ClipError, Reason
from avdata.store import Store
from avdata.tables import concatenate, read_clips, to_arrow, write_clips

text = st.text(max_size=20)
whole = st.integers(0, 2**62)
single = st.floats(width=32, allow_nan=False)
members = st.builds(Member, whole, whole)
clips = st.builds(
    Clip,
    key=text,
    url=text,
    source_id=text,
    start_ms=st.none() | whole,
    events_ms=st.lists(whole, max_size=3).map(tuple),
    labels=st.lists(text, max_size=3).map(tuple),
    attributes=st.dictionaries(text, text, max_size=3),
    status=st.sampled_from(Status),
    source=st.none()
    | st.builds(
        Source, text, text, whole, whole, whole, whole, single, whole, text, text, whole, whole
    ),
    media=st.none()
    | st.builds(
        Media,
        text,
        members,
        text,
        whole,
        whole,
        whole,
        whole,
        st.lists(st.builds(Frame, single, whole, whole), max_size=3).map(tuple),
        st.none() | members,
    ),
    measures=st.dictionaries(text, single, max_size=3),
    class_scores=st.lists(single, max_size=3).map(tuple),
    selection=st.none()
    | st.builds(
        Selection,
        text,
        st.lists(single, max_size=3).map(tuple),
        st.lists(whole, max_size=3).map(tuple),
        st.lists(st.lists(single, max_size=2).map(tuple), max_size=2).map(tuple),
        whole,
        whole,
    ),
)


@given(st.lists(clips, max_size=4))
def test_every_clip_survives_arrow(rows: list[Clip]) -> None:
    assert [Clip.from_row(row) for row in to_arrow(rows).to_pylist()] == rows


def test_the_columns_of_a_clip_table_are_what_other_tools_have_learnt_to_read() -> None:
    member = "struct<offset: int64, bytes: int64>"
    types = {
        "start_ms": "int64",
        "events_ms": "list<item: int64>",
        "labels": "list<item: string>",
        "attributes": "map<string, string>",
        "status": "string",
        "source": "struct<path: string, sha256: string, bytes: int64, duration_ms: int64, "
        "width_px: int64, height_px: int64, fps: double, rotation_deg: int64, "
        "video_codec: string, audio_codec: string, audio_rate_hz: int64, audio_channels: int64>",
        "media": f"struct<path: string, audio: {member}, audio_format: string, "
        "sample_rate_hz: int64, n_samples: int64, width_px: int64, height_px: int64, "
        f"frames: list<item: struct<t_s: double, offset: int64, bytes: int64>>, video: {member}>",
        "measures": "map<string, double>",
        "class_scores": "list<item: float>",
        "class_scores_max": "list<item: float>",
        "selection": "struct<scorer: string, frame_scores: list<item: float>, "
        "picks: list<item: int64>, maps: list<item: list<item: float>>, map_height: int64, "
        "map_width: int64>",
    }
    names = ["key", "url", "source_id", "dataset", "split", "licence", "attribution", "end_ms"]
    names += ["step", "reason", "detail"]
    types |= {name: "int64" if name.endswith("_ms") else "string" for name in names}
    schema = clip_schema()
    assert {name: str(schema.field(name).type) for name in schema.names} == types
    assert schema.names == [field.name for field in dataclasses.fields(Clip)]


def test_a_failure_keeps_the_clip_and_gives_the_reason() -> None:
    clip = Clip(key="a", url="u", source_id="s", labels=("rain",))
    failed = clip.failed("fetch", ClipError(Reason.NOT_FOUND, "404\nfrom   the\x00 server"))
    assert (failed.status, failed.step, failed.reason) == (Status.FAILED, "fetch", "not_found")
    assert failed.detail == "404 from the server"
    assert failed.labels == ("rain",)


def test_a_child_of_the_longest_key_still_has_a_key_of_its_own() -> None:
    long, other = "k" * 160, "k" * 159 + "x"
    assert child_key("short", 1500) == "short-00001500"
    assert KEY_PATTERN.fullmatch(child_key(long, 1500))
    assert len({child_key(k, t) for k in (long, other) for t in (0, 1500)}) == 4


def test_details_stay_on_one_short_line() -> None:
    assert one_line("a\n\tb  c") == "a b c"
    assert len(one_line("x" * 10_000_000)) == 500


def test_tables_join_in_order(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for name in "ab":
        write_clips(
            tmp_path / f"{name}.parquet",
            [Clip(key=f"{name}{i}", url="u", source_id="s") for i in range(3)],
        )
    assert concatenate(store, ["b.parquet", "a.parquet"], "all.parquet") == 6
    keys = [clip.key for clip in read_clips(store, "all.parquet")]
    assert keys == ["b0", "b1", "b2", "a0", "a1", "a2"]
