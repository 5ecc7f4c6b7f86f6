"""What the index says of each clip: filtered by pandas and duckdb, checked by the loader."""

from __future__ import annotations

import io
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from avdata.clip import Selection, Status
from avdata.errors import ShardError
from avdata.frames import encode_jpeg
from avdata.loader import Loader
from avdata.measures import class_names
from avdata.shards.folder import read_dataset
from avdata.shards.index import index_schema
from avdata.shards.views import View
from avdata.store import Store
from avdata.tables import write_clips
from avdata.torch_dataset import ShardDataset
from tests.clip_factory import ClipFactory
from tests.shard_factory import pack

RATE_HZ = 8000
N = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips; every third is of rain, loudness falls from clip to clip."""
    made = tmp_path_factory.mktemp("index")
    factory = ClipFactory(made)
    rain, wind = (class_names().index(name) for name in ("Rain", "Wind"))
    rng = np.random.default_rng(0)
    clips = []
    for n in range(N):
        scores = np.full(521, 0.001, np.float32)
        scores[rain if n % 3 == 0 else wind] = 0.8
        image = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        clip = factory.clip(
            f"clip{n:02d}",
            [image],
            [0.25],
            0.3 * np.sin(np.arange(RATE_HZ // 2) * 0.1 * (n + 1)),
            rate_hz=RATE_HZ,
            source_id=f"video{n}",
            split="train",
            labels=("hike",),
            status=Status.ACCEPTED,
            selection=Selection("mid", (1.0,), (0,)),
        )
        measures = {"loudness_lufs": -20.0 - n} | ({"still_share": 0.5} if n == 5 else {})
        clips.append(replace(clip, measures=measures, class_scores=scores, url=f"http://x/{n}.mp4"))
    factory.part()
    write_clips(made / "table.parquet", clips)
    pack(Store(str(made)), ["table.parquet"])
    return made


def test_pandas_filters_by_measures_tags_and_url(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    index = pandas.read_parquet(folder / "shards" / "index.parquet")
    loud = index[(index.loudness_lufs > -25) & (index.top_tag == "Rain")]
    assert sorted(loud.key) == ["clip00", "clip03"]
    assert index.still_share.notna().sum() == 1  # taken of one clip, null of the others
    row = index[index.key == "clip04"].iloc[0]
    assert (row.url, row.source_id, row.scorer) == ("http://x/4.mp4", "video4", "mid")
    assert next(iter(row.tags)) == "Wind"
    assert row.tag_scores[0] == pytest.approx(0.8, abs=1e-3)


def test_duckdb_filters_the_same(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql(
        f"SELECT key FROM '{folder}/shards/index.parquet' "
        "WHERE loudness_lufs > -25 AND list_contains(tags, 'Rain') "
        "AND tag_scores[1] > 0.5 ORDER BY key"
    ).fetchall()
    assert [key for (key,) in rows] == ["clip00", "clip03"]


def test_checksums_are_those_of_the_members(folder: Path) -> None:
    index = pq.read_table(folder / "shards" / "index.parquet").to_pylist()
    for row in index:
        with (folder / "shards" / row["shard"]).open("rb") as file:
            for member in ("jpg", "audio", "json"):
                file.seek(row[f"{member}_offset"])
                data = file.read(row[f"{member}_bytes"])
                assert zlib.crc32(data) == row[f"{member}_crc32"]
        assert row["frames"][0]["crc32"] == row["jpg_crc32"]


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> tuple[Path, str, str]:
    """A copy in which one picture no longer decodes, and one byte of another's sound differs."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    rows = pq.read_table(copy / "shards" / "index.parquet").to_pylist()
    broken, altered = rows[2], rows[7]
    with (copy / "shards" / broken["shard"]).open("r+b") as file:
        file.seek(broken["jpg_offset"])
        file.write(bytes(40))
    sound = altered["audio_offset"] + altered["audio_bytes"] - 3  # in the last frame's checksum
    with (copy / "shards" / altered["shard"]).open("r+b") as file:
        file.seek(sound)
        byte = file.read(1)[0]
        file.seek(sound)
        file.write(bytes([byte ^ 1]))
    return copy, broken["key"], altered["key"]


def test_a_bad_sample_ends_the_epoch_unless_it_may_be_left_out(
    damaged: tuple[Path, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, broken, _ = damaged
    view = View(only="image")
    with pytest.raises(ShardError, match=rf"cannot decode {broken} .* bad_samples=\"skip\""):
        list(Loader(folder, "train", batch_size=4, view=view))
    loader = Loader(folder, "train", batch_size=4, view=view, bad_samples="skip")
    for _ in range(2):
        sizes = [len(batch) for batch in loader]
        assert sorted(sizes) == [3, 4, 4]
    assert list(loader.skipped) == [broken]
    assert caplog.text.count(f"{broken} in ") == 1  # said once
    assert set(loader.skipped) == {broken}


def test_what_decodes_but_was_changed_is_found_on_request(damaged: tuple[Path, str, str]) -> None:
    folder, broken, altered = damaged
    loader = Loader(folder, "train", batch_size=4, bad_samples="skip", check=True)
    keys = {key for batch in loader for key in batch.keys}
    assert set(loader.skipped) == {broken, altered}
    assert len(keys) == N - 2
    assert loader.skipped[altered] == "its checksum is not that of the index"


def test_left_out_samples_do_not_move_the_others(
    damaged: tuple[Path, str, str], folder: Path
) -> None:
    """Batches hold what the undamaged folder's hold, without the bad one; resuming is the same."""
    copy, broken, _ = damaged
    options = {"batch_size": 4, "seed": 1, "view": View(only="image")}
    whole = [batch.keys for batch in Loader(folder, "train", **options)]
    loader = Loader(copy, "train", bad_samples="skip", **options)
    left = [batch.keys for batch in loader]
    assert left == [[key for key in keys if key != broken] for keys in whole]
    first = Loader(copy, "train", bad_samples="skip", **options)
    iterator = iter(first)
    next(iterator)
    again = Loader(copy, "train", bad_samples="skip", **options)
    again.load_state_dict(first.state_dict())
    assert [batch.keys for batch in again] == left[1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_one_bad_sample_never_ends_an_epoch(
    damaged: tuple[Path, str, str], caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    """Not in batches of one either: no batch is handed out for it."""
    folder, broken, altered = damaged
    options = {"batch_size": 1, "workers": workers, "bad_samples": "skip", "check": True}
    loader = Loader(folder, "train", **options)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [1] * (N - 2)
    assert set(loader.skipped) == {broken, altered}
    assert caplog.text.count("is left out") == 2


def test_batches_tell_what_was_left_out_of_them(damaged: tuple[Path, str, str]) -> None:
    """In another process, too, where nobody sees the loader's own count."""
    folder, broken, _ = damaged
    options = {"batch_size": 4, "view": View(only="image"), "bad_samples": "skip"}
    dataset = ShardDataset(folder, "train", **options)
    batches = list(DataLoader(dataset, batch_size=None, num_workers=2))
    told = [(len(batch), list(batch.skipped)) for batch in batches if batch.skipped]
    assert told == [(3, [broken])]
    assert sum(map(len, batches)) == N - 1


def test_ranks_in_step_need_a_batch_each(damaged: tuple[Path, str, str]) -> None:
    folder, broken, _ = damaged
    options = {"batch_size": 1, "world_size": 2, "bad_samples": "skip", "view": View(only="image")}
    ranks = [Loader(folder, "train", rank=rank, **options) for rank in (0, 1)]
    with pytest.raises(ShardError, match="falls out of step"):
        [list(loader) for loader in ranks]
    keys = [
        key
        for rank in (0, 1)
        for batch in Loader(folder, "train", rank=rank, uneven="keep", **options)
        for key in batch.keys
    ]
    assert len(set(keys)) == len(keys) == N - 1
    assert broken not in keys


def test_an_epoch_of_which_nothing_is_left_is_an_error(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for tar in (copy / "shards").glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(ShardError, match="not one of the samples of train"):
        list(Loader(copy, "train", batch_size=4, bad_samples="skip"))


def test_a_picture_of_another_size_is_a_bad_sample(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    row = pq.read_table(copy / "shards" / "index.parquet").to_pylist()[0]
    small = encode_jpeg(np.zeros((8, 8, 3), np.uint8), 20)
    assert len(small) <= row["jpg_bytes"]
    with (copy / "shards" / row["shard"]).open("r+b") as file:
        file.seek(row["jpg_offset"])
        file.write(small.ljust(row["jpg_bytes"], b"\0"))
    for batch_size in (1, N):
        with pytest.raises(ShardError, match=f"cannot decode {row['key']} .*8x8"):
            list(Loader(copy, "train", batch_size=batch_size))
        loader = Loader(copy, "train", batch_size=batch_size, bad_samples="skip")
        assert sum(map(len, loader)) == N - 1
        assert "8x8" in loader.skipped[row["key"]]


def test_older_shards_load_without_checksums(folder: Path, tmp_path: Path) -> None:
    """An index as the first format 1 had it."""
    import hashlib
    import json

    from avdata.shards.folder import seal

    old = tmp_path / "old"
    shutil.copytree(folder, old)
    path = old / "shards" / "index.parquet"
    table = pq.read_table(path)
    newer = [name for name in table.column_names if name.endswith("crc32")]
    newer += ["url", "tags", "tag_scores", "top_tag", "scorer", "source_sha256", "loudness_lufs"]
    buffer = io.BytesIO()
    pq.write_table(table.drop_columns(newer), buffer)
    path.write_bytes(buffer.getvalue())
    tree = read_dataset(Store(str(old / "shards")))
    tree["index"] |= {
        "bytes": len(buffer.getvalue()),
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
    }
    (old / "shards" / "dataset.json").write_bytes(seal(tree))
    assert json.loads((old / "shards" / "dataset.json").read_text())["index"] == tree["index"]
    assert sum(len(batch) for batch in Loader(old, "train", batch_size=4)) == N
    with pytest.raises(ShardError, match="an older avdata packed these shards"):
        Loader(old, "train", batch_size=4, check=True)


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "shards.md").read_text()
    told = set(re.findall(r"`([a-z_0-9*]+)`", text))
    members = tuple(name.removesuffix("*") for name in told if name.endswith("_*"))
    assert set(members) == {"jpg_", "audio_", "json_", "mp4_"}
    endings = {"offset", "bytes", "crc32"} & told
    in_members = {f"{member}{ending}" for member in members for ending in endings}
    assert set(index_schema().names) - told - in_members == set()
