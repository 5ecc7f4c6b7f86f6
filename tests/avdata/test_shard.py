"""shard: what is in the tars, who can read them, splits, duplicates, order, resuming."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avdata.audio import decode
from avdata.config import ShardSettings
from avdata.errors import SettingsError, ShardError, StoreError
from avdata.frames import decode_jpeg
from avdata.shards.folder import read_dataset
from avdata.shards.verify import verify
from avdata.steps.shard import DUPLICATES_PATH, plan_shards, write_shard
from avdata.steps.shard_splits import fractions, split_at
from avdata.store import Store
from avdata.strict import build
from avdata.tables import read_clips, write_clips
from tests.shard_factory import Made, pack, picture, sound, tar_of, write_table


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


def shards_of(store: Store) -> Path:
    return Path(store.full("shards"))


def contents(store: Store) -> dict[str, str]:
    """Checksum of every file that belongs to the dataset."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(shards_of(store).glob("*"))
        if path.is_file()
    }


def members(store: Store) -> dict[str, bytes]:
    """Every member of every tar, by name, read by the standard library."""
    found = {}
    for path in sorted(shards_of(store).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                assert member.name not in found
                found[member.name] = file.read()
    return found


def index_rows(store: Store) -> list[dict]:
    import pandas

    return pandas.read_parquet(shards_of(store) / "index.parquet").to_dict("records")


def dataset(store: Store) -> dict:
    return read_dataset(Store(store.full("shards")))


def test_a_clip_is_picture_sound_and_description(store: Store) -> None:
    made = Made(7)
    pack(store, [write_table(store, "a", [made])], ShardSettings(splits={"train": 1.0}))
    found = members(store)
    assert sorted(found) == [f"clip0007.{s}" for s in ("1.jpg", "flac", "jpg", "json")]
    best, second = decode_jpeg(found["clip0007.jpg"]), decode_jpeg(found["clip0007.1.jpg"])
    assert np.abs(best.astype(int) - picture(made, 1)).max() <= 4
    assert np.abs(second.astype(int) - picture(made, 0)).max() <= 4
    samples, rate = decode(found["clip0007.flac"])
    assert rate == 8000
    assert np.array_equal(samples, sound(made))
    about = json.loads(found["clip0007.json"])
    assert about["frames"] == [
        {"file": "jpg", "score": 1.0, "t_s": 0.1},
        {"file": "1.jpg", "score": 0.25, "t_s": 0.0},
    ]
    assert about["labels"] == ["rain", "wind"]
    assert about["attributes"] == {"taker": "señor"}
    assert about["measures"] == {"loudness_lufs": -20.1235, "silence": 0.0}
    assert (about["start_ms"], about["end_ms"], about["licence"]) == (0, 500, "CC0-1.0")
    # the scores rise with the class index, so the last ten of 521 are the best ten
    assert [tag["score"] for tag in about["tags"]] == [
        float(f"{v:.6g}") for v in np.linspace(0, 0.5, 521)[:-11:-1]
    ]
    assert about["tags"][0]["name"] == "Field recording"


def test_every_candidate_frame_can_go_in(store: Store) -> None:
    table = write_table(store, "a", [Made(1, picks=(2,))])
    pack(store, [table], ShardSettings(frames="all", splits={"train": 1.0}))
    assert sorted(members(store)) == [
        f"clip0001.{s}" for s in ("000.jpg", "001.jpg", "002.jpg", "flac", "json")
    ]
    (row,) = index_rows(store)
    assert [f["t_s"] for f in row["frames"]] == [0.0, 0.1, 0.2]
    assert row["jpg_offset"] == row["frames"][2]["offset"]
    assert verify(store.root, deep=True) == []


def test_index_offsets_lead_to_the_members(store: Store) -> None:
    made = [Made(n) for n in range(12)]
    pack(store, [write_table(store, "a", made, "wav")], ShardSettings(max_clips=5))
    found = members(store)
    for row in index_rows(store):
        data = (shards_of(store) / row["shard"]).read_bytes()
        for column, suffix in (("jpg", "jpg"), ("audio", "wav"), ("json", "json")):
            start = int(row[f"{column}_offset"])
            assert (
                data[start : start + int(row[f"{column}_bytes"])] == found[f"{row['key']}.{suffix}"]
            )


def test_long_keys_keep_their_offsets(store: Store) -> None:
    table = write_table(store, "a", [Made(1)])
    rows = read_clips(store, table)
    write_clips(Path(store.full(table)), [replace(rows[0], key="k" * 160)])
    pack(store, [table])
    assert verify(store.root, deep=True) == []


def test_bytes_do_not_depend_on_how_the_clips_were_spread(tmp_path: Path) -> None:
    made = [Made(n, source=n // 3, start_ms=500 * n) for n in range(30)]
    settings = ShardSettings(max_clips=7)
    one, many = Store(str(tmp_path / "one")), Store(str(tmp_path / "many"))
    pack(one, [write_table(one, "a", made)], settings)
    pack(many, [write_table(many, f"p{n}", made[n : n + 4]) for n in range(0, 30, 4)], settings)
    assert len(contents(one)) > 6
    assert contents(one) == contents(many)


def test_a_remote_run_gives_the_same_bytes(store: Store) -> None:
    import fsspec

    tables = [write_table(store, "a", [Made(n) for n in range(7)])]
    settings = ShardSettings(max_clips=3, splits={"train": 1.0})
    memory = fsspec.filesystem("memory")
    memory.put(store.full("work"), "/shard-test/work", recursive=True)
    try:
        pack(Store("memory://shard-test"), tables, settings)
        assert verify("memory://shard-test", deep=True) == []
        remote = {
            name.rsplit("/", 1)[-1]: hashlib.sha256(memory.cat_file(name)).hexdigest()
            for name in memory.ls("/shard-test/shards", detail=False)
            if memory.isfile(name)
        }
    finally:
        memory.rm("/shard-test", recursive=True)
    pack(store, tables, settings)
    assert remote == contents(store)


def test_another_seed_gives_another_order(store: Store) -> None:
    table = write_table(store, "a", [Made(n) for n in range(20)])
    settings = ShardSettings(splits={"train": 1.0})
    orders = []
    for seed in (0, 1):
        pack(store, [table], settings, seed)
        orders.append([row["key"] for row in index_rows(store)])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) != orders[0]


def test_a_source_is_never_cut_through_by_a_split(store: Store) -> None:
    made = [Made(n, source=n % 60, start_ms=500 * (n // 60)) for n in range(240)]
    pack(store, [write_table(store, "a", made)])
    of_source: dict[str, set[str]] = {}
    for row in index_rows(store):
        of_source.setdefault(row["source_id"], set()).add(row["split"])
    assert len(of_source) == 60
    assert all(len(splits) == 1 for splits in of_source.values())
    counts = {name: facts["sources"] for name, facts in dataset(store)["splits"].items()}
    assert sum(counts.values()) == 60
    assert counts["train"] > counts["val"] > 0 < counts["test"]


def test_official_splits_are_honoured_and_spread_to_the_rest_of_their_source(store: Store) -> None:
    official = {0: "Test", 1: "valid", 2: "train", 3: "../../balanced"}
    made = [Made(n, source=n, split=split) for n, split in official.items()]
    made += [Made(10 + n, source=n, start_ms=5000) for n in official]
    pack(store, [write_table(store, "a", made)])
    split_of = {row["key"]: row["split"] for row in index_rows(store)}
    for n, split in {0: "test", 1: "val", 2: "train", 3: "balanced"}.items():
        assert split_of[f"clip{n:04d}"] == split_of[f"clip{10 + n:04d}"] == split


def test_one_content_under_two_names_is_one_source(store: Store) -> None:
    from dataclasses import replace

    from avdata.tables import write_clips

    made = [Made(n, source=n % 40, start_ms=500 * (n // 40)) for n in range(80)]
    table = write_table(store, "a", made)
    rows = read_clips(store, table)
    # the second forty are the same forty files under other names
    renamed = [replace(clip, source_id=f"copy{clip.source_id}") for clip in rows[40:]]
    write_clips(Path(store.full(table)), [*rows[:40], *renamed])
    pack(store, [table])
    split_of = {row["key"]: row["split"] for row in index_rows(store)}
    for n in range(40):
        assert split_of[f"clip{n:04d}"] == split_of[f"clip{n + 40:04d}"]


def test_duplicates_are_left_out_with_a_reason(store: Store) -> None:
    made = [Made(0), Made(1, source=0), Made(2, source=0, start_ms=500), Made(3)]
    tables = [write_table(store, "a", made[:2]), write_table(store, "b", made[2:])]
    pack(store, tables)
    assert sorted(row["key"] for row in index_rows(store)) == ["clip0000", "clip0002", "clip0003"]
    (left_out,) = read_clips(store, DUPLICATES_PATH)
    assert (left_out.key, left_out.status, left_out.reason, left_out.step) == (
        "clip0001",
        "rejected",
        "duplicate_video",
        "shard",
    )
    assert "clip0000" in left_out.detail
    assert dataset(store)["duplicates"] == 1
    pack(store, tables, ShardSettings(drop_duplicates=False))
    assert len(index_rows(store)) == 4
    assert read_clips(store, DUPLICATES_PATH) == []


def test_only_accepted_clips_go_in(store: Store) -> None:
    made = [Made(n, accepted=n % 2 == 0) for n in range(6)]
    pack(store, [write_table(store, "a", made)])
    assert sorted(row["key"] for row in index_rows(store)) == ["clip0000", "clip0002", "clip0004"]


def test_nothing_accepted_is_a_clear_outcome(store: Store) -> None:
    assert pack(store, [write_table(store, "a", [Made(1, accepted=False)])]) == []
    facts = dataset(store)
    assert (facts["clips"], facts["shards"], facts["files"]) == (0, 0, {})
    assert facts["notes"] == ["no clip was accepted, so there is no shard"]
    assert index_rows(store) == []
    assert verify(store.root) == []


def test_an_empty_split_is_named(store: Store) -> None:
    pack(store, [write_table(store, "a", [Made(1, split="train")])])
    assert [note.split()[:4] for note in dataset(store)["notes"]] == [
        ["split", "val", "is", "empty:"],
        ["split", "test", "is", "empty:"],
    ]


def test_shards_are_cut_by_count_and_by_size(store: Store) -> None:
    table = write_table(store, "a", [Made(n) for n in range(20)], "wav")
    by_count = pack(store, [table], ShardSettings(max_clips=6, splits={"train": 1.0}))
    assert [plan.clips for plan in by_count] == [6, 6, 6, 2]
    limit = 60_000
    pack(store, [table], ShardSettings(max_bytes=limit, splits={"train": 1.0}))
    sizes = [path.stat().st_size for path in sorted(shards_of(store).glob("*.tar"))]
    assert len(sizes) > 2
    assert max(sizes) <= limit + 10_240  # a tar ends with padding to whole records
    one_each = pack(store, [table], ShardSettings(max_bytes=1, splits={"train": 1.0}))
    assert [plan.clips for plan in one_each] == [1] * 20


def test_what_is_done_is_not_written_again_and_what_is_stale_goes(store: Store) -> None:
    table = write_table(store, "a", [Made(n) for n in range(9)])
    settings = ShardSettings(max_clips=4, splits={"train": 1.0})
    pack(store, [table], settings)
    before = {p: p.stat().st_mtime_ns for p in shards_of(store).glob("*.tar")}
    first = contents(store)
    pack(store, [table], settings)
    assert {p: p.stat().st_mtime_ns for p in shards_of(store).glob("*.tar")} == before
    assert contents(store) == first
    tar_of(shards_of(store), "train-000001").unlink()
    pack(store, [table], settings)
    assert contents(store) == first
    (shards_of(store) / "mine.tar").write_bytes(b"")
    pack(store, [table], ShardSettings(max_clips=9, splits={"train": 1.0}))
    left = {p.name for p in shards_of(store).glob("*.tar")}
    assert left == {"mine.tar", tar_of(shards_of(store)).name}


def test_a_dataset_is_not_complete_while_its_shards_change(store: Store) -> None:
    table = write_table(store, "a", [Made(n) for n in range(4)])
    pack(store, [table], ShardSettings(splits={"train": 1.0}))
    plans = plan_shards(store, [table], ShardSettings(max_clips=1, splits={"train": 1.0}), 0)
    assert len(plans) == 4
    assert len(verify(store.root)) == 1
    assert "dataset.json" in verify(store.root)[0]


def test_lost_media_are_an_error_that_names_the_file(store: Store) -> None:
    table = write_table(store, "a", [Made(n) for n in range(4)])
    (plan,) = plan_shards(store, [table], ShardSettings(splits={"train": 1.0}), 0)
    media = Path(store.full("work/a.tar"))
    media.write_bytes(media.read_bytes()[:3000])
    with pytest.raises(StoreError, match=r"work/a\.tar ends before byte"):
        write_shard(store, plan, ShardSettings())
    media.unlink()
    with pytest.raises(StoreError, match=r"work/a\.tar"):
        write_shard(store, plan, ShardSettings())
    assert not list(shards_of(store).glob("*.tar"))


def test_one_key_twice_is_an_error(store: Store) -> None:
    tables = [write_table(store, "a", [Made(1)]), write_table(store, "b", [Made(1, start_ms=9)])]
    with pytest.raises(ShardError, match="clip0001"):
        plan_shards(store, tables, ShardSettings(), 0)


@pytest.mark.parametrize(
    "bad",
    [{"max_clips": 0}, {"splits": {}}, {"splits": {"../x": 1.0}}, {"splits": {"train": -1.0}}],
)
def test_settings_out_of_range_are_refused(bad: dict) -> None:
    with pytest.raises(SettingsError):
        build(ShardSettings, bad, "shard")


def test_many_rows_go_through_buckets(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Made(n) for n in range(40)]
    tables = [write_table(store, f"p{n}", made[n : n + 10]) for n in range(0, 40, 10)]
    settings = ShardSettings(max_clips=3)
    pack(store, tables, settings)
    expected = contents(store)
    monkeypatch.setattr("avdata.steps.shard_rows.ROWS_PER_BUCKET", 7)
    pack(store, tables, settings)
    assert contents(store) == expected


class TestReadBy:
    """Other people's readers."""

    @pytest.fixture
    def made(self, store: Store) -> list[Made]:
        made = [Made(n) for n in range(8)]
        pack(store, [write_table(store, "a", made)], ShardSettings(splits={"train": 1.0}))
        return made

    def test_tar(self, store: Store, made: list[Made]) -> None:
        path = tar_of(shards_of(store))
        listing = subprocess.run(
            ["tar", "--numeric-owner", "-tvf", str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
        ).stdout.splitlines()
        assert len(listing) == 4 * len(made)
        assert all(line.startswith("-r--r--r-- 0/0 ") for line in listing)
        assert all("1970-01-01 00:00" in line for line in listing)

    def test_webdataset(self, store: Store, made: list[Made]) -> None:
        import webdataset

        url = str(tar_of(shards_of(store)))
        samples = list(webdataset.WebDataset(url, shardshuffle=False, empty_check=False))
        assert sorted(sample["__key__"] for sample in samples) == [m.key for m in made]
        for sample in samples:
            number = int(sample["__key__"][4:])
            assert json.loads(sample["json"])["source_id"] == f"video{number:04d}"
            assert np.array_equal(decode(sample["flac"])[0], sound(made[number]))
            assert {"jpg", "1.jpg"} <= set(sample)

    @pytest.fixture
    def datasets(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Hugging Face's library, kept from asking its hub."""
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        return pytest.importorskip("datasets")

    @staticmethod
    def opened(datasets: Any, store: Store, **options: Any) -> Any:
        files = {"train": [str(tar) for tar in shards_of(store).glob("*.tar")]}
        return datasets.load_dataset(
            "webdataset", data_files=files, split="train", streaming=True, **options
        )

    def test_hugging_face_datasets(self, datasets: Any, store: Store, made: list[Made]) -> None:
        features = self.opened(datasets, store).features
        assert isinstance(features["jpg"], datasets.Image)
        assert isinstance(features["flac"], datasets.Audio)
        assert features["json"]["labels"] == datasets.List(datasets.Value("string"))
        # as bytes, so that reading does not ask for an audio decoder
        plain = datasets.Features({**features, "flac": datasets.Value("binary")})
        rows = list(self.opened(datasets, store, features=plain))
        assert sorted(row["__key__"] for row in rows) == [m.key for m in made]
        for row in rows:
            number = int(row["__key__"][4:])
            assert row["json"]["source_id"] == f"video{number:04d}"
            assert row["jpg"].size == (32, 32)
            assert np.array_equal(decode(row["flac"])[0], sound(made[number]))

    def test_hugging_face_datasets_decode_the_sound(
        self, datasets: Any, store: Store, made: list[Made]
    ) -> None:
        """As their newest versions do, by torchcodec; it needs FFmpeg's shared libraries."""
        try:
            import torchcodec  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"no torchcodec: {str(error).splitlines()[0]}")
        rows = list(self.opened(datasets, store))
        assert sorted(row["__key__"] for row in rows) == [m.key for m in made]
        for row in rows:
            heard = row["flac"].get_all_samples()
            assert heard.sample_rate == 8000
            samples = np.round(heard.data[0].numpy() * 32768).astype(int)
            assert np.array_equal(samples, sound(made[int(row["__key__"][4:])]))

    def test_duckdb(self, store: Store, made: list[Made]) -> None:
        import duckdb

        path = shards_of(store) / "index.parquet"
        found = duckdb.sql(
            f"select split, count(*), sum(n_samples) from '{path}' group by split"
        ).fetchall()
        assert found == [("train", 8, 8 * 4000)]


@pytest.mark.parametrize("count", [14, 20, 50])
def test_few_sources_come_out_as_the_shares_say(store: Store, count: int) -> None:
    """Less than a source off the exact share, however the hashes fall."""
    for seed in range(3):
        made = [Made(number, source=number) for number in range(count)]
        pack(store, [write_table(store, f"{count}-{seed}", made)], seed=seed)
        splits = dataset(store)["splits"]
        for name, share in {"train": 0.8, "val": 0.1, "test": 0.1}.items():
            assert abs(splits[name]["sources"] - share * count) < 1, (name, seed)


def test_many_sources_keep_their_split_when_others_come() -> None:
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    names = [f"video{number}" for number in range(1500)]
    before = fractions(names[:1200], seed=4)
    assert fractions(names, seed=4)[:1200] == before
    counts = [sum(split_at(shares, f) == name for f in before) / 1200 for name in shares]
    assert counts == pytest.approx(list(shares.values()), abs=0.03)
    # Below the limit the same hashes are spread evenly: none changes places with another.
    few = fractions(names[:100], seed=4)
    assert np.argsort(few).tolist() == np.argsort(before[:100]).tolist()


def test_a_split_by_clip_names_its_leak(store: Store, tmp_path: Path) -> None:
    """What the note counts is counted here from the index; bytes of other settings stay."""
    made = [Made(n, source=n // 10, start_ms=500 * n) for n in range(40)]
    table = write_table(store, "a", [*made, Made(90, source=9, start_ms=9000)])
    splits = {"train": 0.8, "test": 0.2}
    pack(store, [table], ShardSettings(splits=splits))
    by_source = {row["source_id"]: row["split"] for row in index_rows(store)}
    assert all(by_source[row["source_id"]] == row["split"] for row in index_rows(store))
    assert not [note for note in dataset(store)["notes"] if "leak" in note]
    pack(store, [table], ShardSettings(splits=splits, split_by="clip"))
    rows = index_rows(store)
    assert sum(row["split"] == "test" for row in rows) == 8  # of 41, a fifth
    sides = {source: {r["split"] for r in rows if r["source_id"] == source} for source in by_source}
    torn = sum(len(found) > 1 for found in sides.values())
    assert torn >= 3
    (note,) = dataset(store)["notes"]
    assert note.startswith(f"split by clip, which is a leak: {torn} of 5 source videos have")
    assert dataset(store)["settings"]["split_by"] == "clip"


def test_split_by_clip_without_a_leak_is_not_blamed(store: Store) -> None:
    table = write_table(store, "a", [Made(n) for n in range(10)])  # each of a video of its own
    pack(store, [table], ShardSettings(splits={"train": 0.5, "test": 0.5}, split_by="clip"))
    assert {row["split"] for row in index_rows(store)} == {"train", "test"}
    assert dataset(store)["notes"] == []


def test_a_clip_under_two_names_stays_in_one_split(store: Store) -> None:
    """Split by clip, and nothing dropped: the same window of the same file is on one side alone."""
    table = write_table(store, "a", [Made(n) for n in range(20)])
    clips = read_clips(store, table)
    twins = [replace(clip, key=f"twin-{clip.key}", source_id="another") for clip in clips]
    write_clips(Path(store.full(table)), [*clips, *twins])
    settings = ShardSettings(
        splits={"train": 0.5, "test": 0.5}, split_by="clip", drop_duplicates=False
    )
    pack(store, [table], settings)
    split_of = {row["key"]: row["split"] for row in index_rows(store)}
    assert len(split_of) == 40
    assert set(split_of.values()) == {"train", "test"}
    assert all(split_of[clip.key] == split_of[f"twin-{clip.key}"] for clip in clips)


def test_shares_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shares must sum to 1 at most, these sum to 1\.1"):
        ShardSettings(splits={"train": 0.9, "val": 0.1, "test": 0.1})
