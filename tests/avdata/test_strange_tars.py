"""Tars, names and JSON that a stranger wrote, with checksums that fit: told in one line each."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avdata.config import ShardSettings
from avdata.errors import ShardError
from avdata.loader import Loader
from avdata.shards.folder import DATASET_NAME, INDEX_NAME, seal
from avdata.shards.verify import verify
from avdata.store import Store, sha256_file
from tests.shard_factory import Made, pack, tar_of, write_table

PLAIN, LINK, DEVICE = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of three clips."""
    store = Store(str(tmp_path_factory.mktemp("strange") / "run"))
    table = write_table(store, "a", [Made(n) for n in range(6)])
    pack(store, [table], ShardSettings(max_clips=3, splits={"train": 1.0}))
    return Path(store.full("shards"))


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "shards"))


def rewrite(shards: Path, old: Path, data: bytes, rows: list[dict[str, Any]] | None = None) -> Path:
    """Put other content in a shard's place; names, checksums and index are made to fit."""
    index = pq.read_table(shards / INDEX_NAME)
    old.write_bytes(data)
    new = old.with_name(f"train-000000-{sha256_file(old)[:12]}.tar")
    old.rename(new)
    rows = index.to_pylist() if rows is None else rows
    for row in rows:
        row["shard"] = new.name if row["shard"] == old.name else row["shard"]
    write_index(shards, pa.Table.from_pylist(rows, index.schema))
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    facts = tree["files"].pop(old.name) | {"bytes": len(data), "sha256": sha256_file(new)}
    tree["files"][new.name] = facts
    (shards / DATASET_NAME).write_bytes(seal(tree))
    return new


def write_index(shards: Path, index: pa.Table) -> None:
    path = shards / INDEX_NAME
    pq.write_table(index, path)
    tree = json.loads((shards / DATASET_NAME).read_bytes())
    tree["index"] |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (shards / DATASET_NAME).write_bytes(seal(tree))


def told(shards: Path, deep: bool = False) -> list[str]:
    problems = verify(str(shards), deep=deep)
    assert all(problem.isprintable() and len(problem) < 900 for problem in problems)
    return problems


def tar_with(*members: tuple[str, bytes, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"no tar" * 300,
        b"\xff" * 10240,
        tar_with(("../../x.jpg", PLAIN, b"x"), ("clip\n0000.jpg", PLAIN, b"x")),
        tar_with(("clip0000.jpg", LINK, b""), ("clip0000.json", DEVICE, b"")),
        tar_with(("\udcff\x1b[2J.jpg", PLAIN, b"x")),
    ],
    ids=["text", "noise", "paths", "links", "escapes"],
)
def test_a_tar_that_avdata_did_not_write(shards: Path, data: bytes) -> None:
    rewrite(shards, tar_of(shards), data)
    assert told(shards, deep=True)


def test_any_wrong_bytes_in_the_headers_of_a_tar(shards: Path) -> None:
    path, rng = tar_of(shards), np.random.default_rng(0)
    original = path.read_bytes()
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    for _ in range(40):
        data = bytearray(original)
        for header in rng.choice(headers, 2).tolist():
            data[header + int(rng.integers(512))] = int(rng.integers(256))
        path = rewrite(shards, path, bytes(data))
        told(shards)


def test_a_link_in_the_place_of_a_picture_is_told(shards: Path) -> None:
    path = tar_of(shards)
    (row, *_) = (
        r for r in pq.read_table(shards / INDEX_NAME).to_pylist() if r["shard"] == path.name
    )
    data = bytearray(path.read_bytes())
    header = tarfile.TarInfo(f"{row['key']}.jpg")
    header.type, header.size, header.linkname = tarfile.LNKTYPE, row["jpg_bytes"], "/etc/passwd"
    data[row["jpg_offset"] - 512 : row["jpg_offset"]] = header.tobuf(tarfile.USTAR_FORMAT)
    rewrite(shards, path, bytes(data))
    assert any(f"{row['key']}: no such jpg" in problem for problem in told(shards))


@pytest.mark.parametrize(
    "text",
    [b"[" * 9000, b'{"key": 1}', b"[]", b"{", b'{"key": "ot\\nher"}', b"\xff", b'{"key": NaN}'],
)
def test_a_description_that_avdata_did_not_write(shards: Path, text: bytes) -> None:
    path = tar_of(shards)
    rows = pq.read_table(shards / INDEX_NAME).to_pylist()
    (row, *_) = (r for r in rows if r["shard"] == path.name)
    with tarfile.open(path) as tar:
        end = max(m.offset_data + -(-m.size // 512) * 512 for m in tar)
    name = f"{row['key']}.other.json"
    data = path.read_bytes()[:end] + tar_with((name, PLAIN, text))
    row |= {"json_offset": end + 512, "json_bytes": len(text), "json_crc32": None}
    rewrite(shards, path, data, rows)
    problems = told(shards, deep=True)
    assert any(f": {name}: " in problem for problem in problems), problems


def test_checksums_of_the_index_are_held_against_the_tars(shards: Path) -> None:
    """A loader that compares them would turn down every sample."""
    index = pq.read_table(shards / INDEX_NAME)
    rows = index.to_pylist()
    rows[1]["audio_crc32"] ^= 1
    rows[2]["frames"][1]["crc32"] ^= 1
    write_index(shards, pa.Table.from_pylist(rows, index.schema))
    assert told(shards) == []
    problems = told(shards, deep=True)
    assert [problem.split(": ")[1:] for problem in problems] == [
        [
            f"{rows[number]['key']}.{member}",
            f"its CRC-32 is {crc32 ^ 1:08x}, the index says {crc32:08x}",
        ]
        for number, member, crc32 in (
            (1, "flac", rows[1]["audio_crc32"]),
            (2, "1.jpg", rows[2]["frames"][1]["crc32"]),
        )
    ]


@pytest.mark.parametrize("name", ["key", "split", "shard", "labels"])
def test_texts_that_are_not_utf8_are_refused(shards: Path, name: str) -> None:
    index = pq.read_table(shards / INDEX_NAME)
    data = pa.array([b"\xff\xfe"] * index.num_rows, pa.binary())
    texts: pa.Array = pa.Array.from_buffers(pa.string(), index.num_rows, data.buffers())
    if name == "labels":
        texts = pa.ListArray.from_arrays(pa.array(range(index.num_rows + 1), pa.int32()), texts)
    write_index(shards, index.set_column(index.column_names.index(name), name, texts))
    with pytest.raises(ShardError) as error:
        Loader(shards, "train", batch_size=2)
    assert str(error.value).isprintable()
    assert told(shards)


def test_an_index_with_any_wrong_bytes_is_used_or_refused(shards: Path) -> None:
    original = (shards / INDEX_NAME).read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(150):
        data = bytearray(original)
        for place in rng.integers(0, len(data), 3).tolist():
            data[place] = int(rng.integers(256))
        (shards / INDEX_NAME).write_bytes(data)
        tree = json.loads((shards / DATASET_NAME).read_bytes())
        tree["index"]["sha256"] = sha256_file(shards / INDEX_NAME)
        (shards / DATASET_NAME).write_bytes(seal(tree))
        told(shards)
        try:
            Loader(shards, batch_size=2)
        except ShardError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all(message.isprintable() for message in messages)
