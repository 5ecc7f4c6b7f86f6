"""What a stranger may write into dataset.json and the index: one ShardError, nothing else."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avdata.config import ShardSettings
from avdata.errors import ShardError, StoreError
from avdata.loader import Loader
from avdata.report.facts import collect
from avdata.shards.folder import (
    DATASET_NAME,
    INDEX_NAME,
    read_dataset,
    seal,
)
from avdata.shards.index import index_schema, read_index
from avdata.shards.verify import verify
from avdata.store import Store, sha256_file
from tests.shard_factory import Made, pack, write_table


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(str(tmp_path_factory.mktemp("checked") / "run"))
    table = write_table(store, "a", [Made(n) for n in range(4)])
    pack(store, [table], ShardSettings(max_clips=2, splits={"train": 1.0}))
    return Path(store.full("shards"))


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def refused(shards: Path) -> str:
    """Return why the folder is not read; loader and verify must agree, and say it in one line."""
    with pytest.raises(ShardError) as error:
        Loader(shards, batch_size=1)
    told = str(error.value)
    assert "\n" not in told
    assert len(told) < 500
    assert told in verify(str(shards))
    return told


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"format":' * 50_000,
        b'{"format": "avdata-shards", "version": 1, "clips": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"format": "avdata-shards", "version": true}',
        b'{"format": "avdata-shards", "version": ' + b"9" * 4000 + b"}",
        b'{"format": "avdata-shards", "version": 1, "clips": NaN}',
        b'{"format": "avdata-shards", "version": 1, "clips": "\\ud800"}',
        b"1" * 5000,
        b"\xff\xfe",
        b"",
        b"[]",
        b"null",
    ],
)
def test_a_dataset_file_of_any_kind_is_one_error(shards: Path, text: bytes) -> None:
    (shards / DATASET_NAME).write_bytes(text)
    assert DATASET_NAME in refused(shards)


def test_a_report_on_a_deeply_nested_dataset_file_is_one_error(shards: Path) -> None:
    (shards / DATASET_NAME).write_bytes(b"[" * 200_000)
    with pytest.raises(StoreError, match=r"dataset\.json is damaged"):
        collect(Store(str(shards.parent)))


def replaced(tree: Any, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree[name]
    tree[path[-1]] = value


FACTS = {"bytes": 1, "clips": 0, "sha256": "0" * 64}
WRONG: list[tuple[tuple[str, ...], Any]] = [
    (("clips",), -4),
    (("clips",), 4.0),
    (("clips",), 5),
    (("clips",), True),
    (("clips",), 10**40),
    (("digest",), None),
    (("settings",), []),
    (("settings", "frames"), 1),
    (("splits",), {"train": 4}),
    (("splits", "train", "clips"), 3),
    (("width_px",), "32"),
    (("index",), None),
    (("index", "name"), "../index.parquet"),
    (("index", "sha256"), "x"),
    (("index", "bytes"), 1),
    (("files",), []),
    (("files", "../x-000000.tar"), FACTS),
    (("files", "/x-000000.tar"), FACTS),
    (("files", "x-000000.tar/../../y-000000.tar"), FACTS),
    (("files", "s3://b/x-000000.tar"), FACTS),
    (("files", "x-000000.tar\n"), FACTS),
    (("files", "x-000000-111111111111.tar"), FACTS),
    (("files", "x-000000.tar"), None),
    (("files", "x-000000.tar"), FACTS | {"bytes": -1}),
    (("files", "x-000000.tar"), FACTS | {"clips": float("inf")}),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_dataset_file_that_makes_no_sense_is_refused(
    shards: Path, path: tuple[str, ...], value: Any
) -> None:
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    replaced(tree, path, value)
    (shards / DATASET_NAME).write_bytes(seal(tree))
    with pytest.raises(ShardError):
        Loader(shards, batch_size=1)
    assert verify(str(shards))


def write_rows(shards: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    """Write another index, and checksums that fit it."""
    pq.write_table(pa.Table.from_pylist(rows, schema or index_schema()), shards / INDEX_NAME)
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    path = shards / INDEX_NAME
    tree["index"] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (shards / DATASET_NAME).write_bytes(seal(tree))


ROWS: dict[str, Callable[[dict[str, Any]], object]] = {
    "negative offset": lambda row: row.update(audio_offset=-512),
    "offset behind the end": lambda row: row.update(jpg_offset=10**9),
    "offsets that wrap around": lambda row: row.update(jpg_offset=2**62, jpg_bytes=2**62),
    "negative size": lambda row: row.update(audio_bytes=-1),
    "size without offset": lambda row: row.update(audio_offset=None),
    "shard outside": lambda row: row.update(shard="../../../etc/passwd"),
    "shard that is none": lambda row: row.update(shard=INDEX_NAME),
    "no shard": lambda row: row.update(shard=None),
    "key that is a path": lambda row: row.update(key="../x"),
    "key with a line end": lambda row: row.update(key="clip0001\n"),
    "key of another": lambda row: row.update(key="clip0003"),
    "no key": lambda row: row.update(key=None),
    "no labels": lambda row: row.update(labels=None),
    "an empty label": lambda row: row.update(labels=["rain", None]),
    "endless sound": lambda row: row.update(n_samples=2**40),
    "negative sound": lambda row: row.update(n_samples=-1),
    "negative rate": lambda row: row.update(sample_rate_hz=-8000),
    "endless picture": lambda row: row.update(width_px=2**40),
    "no frames": lambda row: row.update(frames=None),
    "time that is none": lambda row: row["frames"][0].update(t_s=float("nan")),
    "frame without a place": lambda row: row["frames"][0].update(offset=None, bytes=None),
    "frame without a checksum": lambda row: row["frames"][0].update(crc32=None),
    "sound without a checksum": lambda row: row.update(audio_crc32=None),
    "frame outside": lambda row: row["frames"][0].update(offset=2**61),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_make_no_sense_are_refused(shards: Path, name: str) -> None:
    rows = pq.read_table(shards / INDEX_NAME).to_pylist()
    (row,) = (row for row in rows if row["key"] == "clip0002")
    ROWS[name](row)
    write_rows(shards, rows)
    store = Store(str(shards))
    with pytest.raises(ShardError, match=r"index\.parquet makes no sense: "):
        read_index(store, read_dataset(store), index_schema().names)
    if "checksum" not in name:  # verify goes by those of whole tars
        assert any("makes no sense" in problem for problem in verify(str(shards)))


def test_an_index_of_another_schema_is_refused(shards: Path) -> None:
    rows = pq.read_table(shards / INDEX_NAME).to_pylist()
    schema = index_schema()
    texts = schema.set(
        schema.get_field_index("audio_offset"), pa.field("audio_offset", pa.string())
    )
    told = [{**row, "audio_offset": str(row["audio_offset"])} for row in rows]
    write_rows(shards, told, texts)
    assert "has no audio_offset: an older avdata" in refused(shards)
    write_rows(shards, rows, schema.remove(schema.get_field_index("audio_offset")))
    assert "has no audio_offset: an older avdata" in refused(shards)
    (shards / INDEX_NAME).write_bytes(b"PAR1" * 20)
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    tree["index"] |= {"bytes": 80, "sha256": sha256_file(shards / INDEX_NAME)}
    (shards / DATASET_NAME).write_bytes(seal(tree))
    assert "index.parquet cannot be read" in refused(shards)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = [f.name for f in index_schema() if f.type == pa.int64()]
PATHS = [("clips",), ("files",), ("splits",), ("index",), ("settings",), ("digest",)]
PATHS += [("index", "bytes"), ("splits", "train"), ("width_px",), ("files", "x-000000.tar")]


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(PATHS), value=VALUES)
def test_any_value_in_a_dataset_file_is_used_or_refused(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, path: tuple[str, ...], value: Any
) -> None:
    copy = Path(shutil.copytree(packed, tmp_path_factory.mktemp("fuzz") / "shards"))
    tree = json.loads((copy / DATASET_NAME).read_bytes())
    replaced(tree, path, value)
    try:
        (copy / DATASET_NAME).write_bytes(seal(tree))
    except UnicodeEncodeError:
        return
    verify(str(copy))
    with contextlib.suppress(ShardError):
        list(Loader(copy, batch_size=2, workers=0))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NUMBERS), value=st.none() | INT64 | st.integers(-5, 9000))
def test_any_number_in_the_index_is_used_or_refused(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, name: str, value: int | None
) -> None:
    copy = Path(shutil.copytree(packed, tmp_path_factory.mktemp("fuzz") / "shards"))
    rows = pq.read_table(copy / INDEX_NAME).to_pylist()
    rows[1][name] = value
    write_rows(copy, rows)
    verify(str(copy), deep=True)
    with contextlib.suppress(ShardError):
        list(Loader(copy, batch_size=2, workers=0))
