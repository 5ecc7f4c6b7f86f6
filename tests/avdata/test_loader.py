"""loader: nothing lost, nothing doubled, the same whatever the workers, resumable anywhere."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avdata.config import ShardSettings
from avdata.errors import ShardError
from avdata.loader import Batch, Loader
from avdata.shards.batch_reader import BatchReader
from avdata.shards.folder import DATASET_NAME, INDEX_NAME
from avdata.shards.sampling import epoch_order, rank_batches
from avdata.shards.views import View, choose_frames, random_box
from avdata.store import Store
from tests.shard_factory import Made, pack, picture, sound, write_table

N_CLIPS = 23
MADE = [Made(n) for n in range(N_CLIPS)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 clips of half a second in 5 shards."""
    store = Store(str(tmp_path_factory.mktemp("loader") / "run"))
    table = write_table(store, "a", MADE)
    pack(store, [table], ShardSettings(max_clips=5, splits={"train": 1.0}))
    return Path(store.full("shards"))


def keys(batches: object) -> list[str]:
    return [key for batch in batches for key in batch.keys]


ALL = sorted(made.key for made in MADE)


@given(
    n=st.integers(0, 200),
    world=st.integers(1, 9),
    batch_size=st.integers(1, 17),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_ranks_share_every_sample_exactly_once(
    n: int, world: int, batch_size: int, epoch: int, shuffle: bool, data: st.DataObject
) -> None:
    """For any sizes, and when training goes on elsewhere with other sizes."""
    order = epoch_order(n, 5, epoch, shuffle)
    assert sorted(order) == list(range(n))

    def share(uneven: str, taken: int, world: int, batch_size: int) -> list[list[list[int]]]:
        return [
            [
                batch.tolist()
                for batch in rank_batches(
                    order,
                    taken=taken,
                    batch_size=batch_size,
                    rank=rank,
                    world_size=world,
                    uneven=uneven,
                    drop_last=False,
                )
            ]
            for rank in range(world)
        ]

    def flat(ranks: list[list[list[int]]]) -> list[int]:
        return [sample for batches in ranks for batch in batches for sample in batch]

    assert sorted(flat(share("keep", 0, world, batch_size))) == list(range(n))
    dropped = share("drop", 0, world, batch_size)
    assert len({tuple(map(len, batches)) for batches in dropped}) == 1, "ranks in step"
    assert sorted(flat(dropped)) == sorted(order[: n - n % world])
    repeated = share("repeat", 0, world, batch_size)
    assert len({tuple(map(len, batches)) for batches in repeated}) == 1
    counts = Counter(flat(repeated))
    assert set(counts) == set(range(n))
    assert sum(counts.values()) == n + (-n % world)

    steps = data.draw(st.integers(0, len(share("keep", 0, world, batch_size)[0])))
    taken = min(n, steps * world * batch_size)
    before = [batches[:steps] for batches in share("keep", 0, world, batch_size)]
    other_world, other_size = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 17))
    after = share("keep", taken, other_world, other_size)
    assert sorted(flat(before) + flat(after)) == list(range(n))


def test_orders_differ_by_seed_and_epoch() -> None:
    orders = {
        tuple(epoch_order(50, seed, epoch, True))
        for seed, epoch in itertools.product(range(3), [0, 1])
    }
    assert len(orders) == 6


def test_a_batch_holds_what_was_packed(shards: Path) -> None:
    seen = 0
    for batch in Loader(shards, batch_size=4):
        assert batch.image.dtype == np.uint8
        assert batch.image.shape == (len(batch), 32, 32, 3)
        assert batch.audio.dtype == np.int16
        assert batch.audio.shape == (len(batch), 4000)
        assert batch.audio_samples.tolist() == [4000] * len(batch)
        assert batch.sample_rate_hz == 8000
        for number, key in enumerate(batch.keys):
            made = MADE[int(key[4:])]
            assert np.array_equal(batch.audio[number], sound(made))
            assert np.abs(batch.image[number].astype(int) - picture(made, 1)).max() <= 4
            assert batch.labels[number] == (["rain", "wind"] if made.number % 2 else [])
            seen += 1
    assert seen == N_CLIPS


class TestOnly:
    """A view of the picture alone, or of the sound alone."""

    VARIED = View(image_size_px=24, crop_area=(0.3, 0.9), flip=True, frame="random", audio_s=0.3)

    def test_the_part_that_is_asked_for_is_the_same(self, shards: Path) -> None:
        whole = list(Loader(shards, batch_size=4, view=self.VARIED))
        seen = list(Loader(shards, batch_size=4, view=replace(self.VARIED, only="image")))
        heard = list(Loader(shards, batch_size=4, view=replace(self.VARIED, only="audio")))
        for both, image, audio in zip(whole, seen, heard, strict=True):
            assert both.keys == image.keys == audio.keys
            assert both.labels == image.labels == audio.labels
            assert np.array_equal(both.image, image.image)
            assert np.array_equal(both.audio, audio.audio)
            assert np.array_equal(both.audio_samples, audio.audio_samples)
            assert (audio.sample_rate_hz, image.sample_rate_hz) == (8000, 0)
            assert image.audio.shape == (len(both), 0)
            assert not image.audio_samples.any()
            assert audio.image.shape == (len(both), 0, 0, 3)

    @pytest.mark.parametrize(("only", "member"), [("image", "audio"), ("audio", "jpg")])
    def test_the_other_is_not_read(
        self, shards: Path, tmp_path: Path, only: Literal["image", "audio"], member: str
    ) -> None:
        """Its bytes may be anything: here they are noughts."""
        copy = Path(shutil.copytree(shards, tmp_path / "copy"))
        for row in pq.read_table(copy / INDEX_NAME).to_pylist():
            with (copy / row["shard"]).open("r+b") as file:
                file.seek(row[f"{member}_offset"])
                file.write(bytes(row[f"{member}_bytes"]))
        assert sorted(keys(Loader(copy, batch_size=4, view=View(only=only)))) == ALL
        with pytest.raises(ShardError, match="cannot decode"):
            keys(Loader(copy, batch_size=4))

    def test_clips_without_pictures_are_read_for_their_sound(self, tmp_path: Path) -> None:
        store = Store(str(tmp_path / "run"))
        table = write_table(store, "a", [Made(n, picks=()) for n in range(4)], frames=0)
        pack(store, [table], ShardSettings(splits={"train": 1.0}))
        with pytest.raises(ShardError, match=r"4 clips of train have no picture.*only=\"audio\""):
            Loader(store.root, batch_size=4)
        (batch,) = Loader(store.root, batch_size=4, view=View(only="audio"))
        for key, audio in zip(batch.keys, batch.audio, strict=True):
            assert np.array_equal(audio, sound(Made(int(key[4:]))))


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_content_and_order_do_not_depend_on_workers(shards: Path, workers: int) -> None:
    view = View(
        image_size_px=24, crop_area=(0.3, 0.9), flip=True, audio_s=0.2, audio_start="random"
    )

    def epoch(workers: int) -> list[Batch]:
        return list(Loader(shards, batch_size=3, seed=4, workers=workers, view=view))

    for one, other in zip(epoch(0), epoch(workers), strict=True):
        assert one.keys == other.keys
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.audio, other.audio)


def test_chance_differs_by_epoch_and_seed_and_not_by_rank_or_batch(shards: Path) -> None:
    view = View(audio_s=0.2, audio_start="random")

    def starts(seed: int, epoch: int, **sizes: int) -> dict[str, int]:
        loader = Loader(shards, seed=seed, view=view, uneven="keep", **sizes)
        loader.set_epoch(epoch)
        return {
            key: int(batch.audio[n, 0]) - 100 * int(key[4:])
            for batch in loader
            for n, key in enumerate(batch.keys)
        }

    base = starts(0, 0, batch_size=3)
    assert len(set(base.values())) > N_CLIPS // 2
    assert all(0 <= start <= 4000 - 1600 for start in base.values())
    assert starts(0, 1, batch_size=3) != base
    assert starts(1, 0, batch_size=3) != base
    of_ranks = [starts(0, 0, batch_size=5, rank=rank, world_size=2) for rank in range(2)]
    assert of_ranks[0] | of_ranks[1] == base


def test_epochs_follow_each_other(shards: Path) -> None:
    loader = Loader(shards, batch_size=4)
    first, second = keys(loader), keys(loader)
    assert sorted(first) == sorted(second) == ALL
    assert first != second
    loader.set_epoch(0)
    assert keys(loader) == first
    plain = Loader(shards, batch_size=4, shuffle=False)
    assert keys(plain) == keys(plain)


@pytest.mark.parametrize("uneven", ["drop", "repeat", "keep"])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_split_an_epoch(shards: Path, world: int, uneven: str) -> None:
    loaders = [
        Loader(shards, batch_size=2, rank=rank, world_size=world, uneven=uneven)
        for rank in range(world)
    ]
    epochs = [list(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [len(batches) for batches in epochs]
    seen = Counter(key for batches in epochs for key in keys(batches))
    if uneven == "keep":
        assert seen == Counter(ALL)
    else:
        assert len({len(batches) for batches in epochs}) == 1
    if uneven == "drop":
        assert sum(seen.values()) == N_CLIPS - N_CLIPS % world
        assert max(seen.values()) == 1
    if uneven == "repeat":
        assert set(seen) == set(ALL)


def test_drop_last_gives_whole_batches(shards: Path) -> None:
    loader = Loader(shards, batch_size=5, drop_last=True)
    assert [len(batch) for batch in loader] == [5] * 4
    assert len(loader) == 4


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_goes_on_exactly(shards: Path, step: int, workers: int) -> None:
    view = View(audio_s=0.2, audio_start="random")
    undisturbed = Loader(shards, batch_size=4, view=view, workers=workers)
    expected = list(undisturbed) + list(undisturbed)
    loader = Loader(shards, batch_size=4, view=view, workers=workers)
    running = iter(loader)
    before = [next(running) for _ in range(step)]
    state = json.loads(json.dumps(loader.state_dict()))
    running.close()

    resumed = Loader(shards, batch_size=4, view=view, workers=workers)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)  # as training loops do at the start of each epoch
    after = list(resumed)
    after += list(resumed)
    assert keys(before + after) == keys(expected)
    for one, other in zip(before + after, expected, strict=True):
        assert np.array_equal(one.audio, other.audio)


def test_resuming_with_other_ranks_loses_and_repeats_nothing(shards: Path) -> None:
    two = [Loader(shards, batch_size=3, rank=rank, world_size=2) for rank in range(2)]
    running = [iter(loader) for loader in two]
    before = [next(batches) for batches in running for _ in range(2)]
    states = [loader.state_dict() for loader in two]
    assert states[0] == states[1]
    three = [
        Loader(shards, batch_size=2, rank=rank, world_size=3, uneven="keep") for rank in range(3)
    ]
    for loader in three:
        loader.load_state_dict(states[0])
    assert sorted(keys(before) + [key for loader in three for key in keys(loader)]) == ALL


def test_starting_over_without_a_state_starts_the_epoch_anew(shards: Path) -> None:
    loader = Loader(shards, batch_size=4)
    first = next(iter(loader)).keys
    assert sorted(keys(loader)) == ALL
    loader.set_epoch(0)
    assert next(iter(loader)).keys == first


def test_a_state_of_other_data_is_refused(shards: Path, tmp_path: Path) -> None:
    state = Loader(shards, batch_size=4).state_dict()
    with pytest.raises(ShardError, match="seed"):
        Loader(shards, batch_size=4, seed=1).load_state_dict(state)
    store = Store(str(tmp_path / "run"))
    pack(store, [write_table(store, "a", MADE[:3])], ShardSettings(splits={"train": 1.0}))
    with pytest.raises(ShardError, match="dataset"):
        Loader(store.root, batch_size=4).load_state_dict(state)


def test_leaving_early_leaves_no_threads(shards: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        for _ in Loader(shards, batch_size=1, workers=3):
            break
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("avdata-loader")]


def test_batches_ahead_are_bounded(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    plain = BatchReader.read

    def counted(self: BatchReader, rows: np.ndarray, epoch: int) -> Batch:
        loaded.append(len(rows))
        return plain(self, rows, epoch)

    monkeypatch.setattr(BatchReader, "read", counted)
    batches = iter(Loader(shards, batch_size=1, workers=2, prefetch=1))
    next(batches)
    # Whatever was asked for before the first batch came out is at most workers + prefetch.
    assert len(loaded) <= 3
    batches.close()


class TestViews:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Store(str(tmp_path / "run"))

    def test_short_sound_is_padded_or_tiled(self, shards: Path) -> None:
        padded = next(iter(Loader(shards, batch_size=1, view=View(audio_s=0.75))))
        made = MADE[int(padded.keys[0][4:])]
        assert padded.audio.shape == (1, 6000)
        assert padded.audio_samples.tolist() == [4000]
        assert np.array_equal(padded.audio[0, :4000], sound(made))
        assert not padded.audio[0, 4000:].any()
        tiled = next(
            iter(Loader(shards, batch_size=1, view=View(audio_s=0.75, short_audio="tile")))
        )
        assert np.array_equal(tiled.audio[0, 4000:], sound(made)[:2000])

    def test_clips_of_different_length_are_padded_to_the_longest(self, store: Store) -> None:
        made = [Made(0, n_samples=3000), Made(1, n_samples=4000)]
        pack(store, [write_table(store, "a", made)], ShardSettings(splits={"train": 1.0}))
        (batch,) = Loader(store.root, batch_size=2)
        assert dict(zip(batch.keys, batch.audio_samples.tolist(), strict=True)) == {
            "clip0000": 3000,
            "clip0001": 4000,
        }

    def test_random_frames_come_from_all_stored_ones(self, store: Store) -> None:
        table = write_table(store, "a", [Made(n) for n in range(20)])
        pack(store, [table], ShardSettings(frames="all", splits={"train": 1.0}))
        loader = Loader(store.root, batch_size=20, view=View(frame="random"))
        (batch,) = loader
        blue = np.round(batch.image[:, 16, 16, 2] / 80).astype(int)  # 80 per frame number
        assert set(blue.tolist()) == {0, 1, 2}
        (best,) = Loader(store.root, batch_size=20)
        assert set(np.round(best.image[:, 16, 16, 2] / 80).astype(int).tolist()) == {1}

    @pytest.mark.parametrize(
        ("view", "numbers"),
        [
            (View(frame="even", n_frames=1), [1]),
            (View(frame="even", n_frames=3), [0, 1, 2]),
            (View(frame="even", n_frames=5), [0, 0, 1, 2, 2]),
            (View(frame="random", n_frames=3), [0, 1, 2]),
        ],
    )
    def test_several_frames_come_in_the_order_of_time(
        self, store: Store, view: View, numbers: list[int]
    ) -> None:
        pack(store, [write_table(store, "a", MADE)], ShardSettings(frames="all"))
        (batch,) = Loader(store.root, batch_size=N_CLIPS, view=view)
        assert batch.image.shape == (len(batch), len(numbers), 32, 32, 3)
        assert batch.frame_times_s is not None
        for clip, key in enumerate(batch.keys):
            np.testing.assert_allclose(batch.frame_times_s[clip], 0.1 * np.array(numbers))
            for place, number in enumerate(numbers):
                expected = picture(MADE[int(key[4:])], number)
                assert np.abs(batch.image[clip, place].astype(int) - expected).max() <= 4

    def test_picked_frames_are_brought_into_the_order_of_time(self, store: Store) -> None:
        pack(store, [write_table(store, "a", MADE)], ShardSettings(frames="picked"))
        (batch,) = Loader(store.root, batch_size=N_CLIPS, view=View(frame="even", n_frames=2))
        np.testing.assert_allclose(batch.frame_times_s, [[0.0, 0.1]] * len(batch))

    def test_random_frames_repeat_only_when_there_are_no_others(self) -> None:
        times_s = [0.2, 0.0, 0.1, 0.3]
        chosen = [
            choose_frames(times_s, View(frame="random", n_frames=n), np.random.default_rng(seed))
            for seed in range(200)
            for n in (2, 4, 6)
        ]
        for frames in chosen:
            counts = Counter(frames)
            assert max(counts.values()) - (min(counts.values()) if len(frames) >= 4 else 1) <= 1
            assert [times_s[i] for i in frames] == sorted(times_s[i] for i in frames)
        pairs = Counter(tuple(frames) for frames in chosen if len(frames) == 2)
        assert len(pairs) == 6  # every pair, about 33 times
        assert min(pairs.values()) > 15
        assert max(pairs.values()) < 60

    def test_chance_in_several_frames_is_keyed(self, store: Store) -> None:
        pack(store, [write_table(store, "a", MADE)], ShardSettings(frames="all"))
        view = View(image_size_px=16, crop_area=(0.2, 0.9), frame="random", n_frames=2)
        one, other = (
            {key: batch.image[n].tobytes() for batch in loader for n, key in enumerate(batch.keys)}
            for loader in (
                Loader(store.root, batch_size=5, seed=3, workers=workers, view=view)
                for workers in (0, 3)
            )
        )
        assert one == other

    def test_random_boxes_lie_within_and_have_the_asked_area(self) -> None:
        view = View(image_size_px=8, crop_area=(0.25, 0.5))
        rng = np.random.default_rng(0)
        areas = []
        for _ in range(500):
            left, top, right, bottom = random_box(64, 48, view, rng)
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 48
            areas.append((right - left) * (bottom - top) / (64 * 48))
        assert 0.23 < min(areas) < 0.28
        assert 0.47 < max(areas) < 0.52
        assert np.mean(areas) == pytest.approx(0.375, abs=0.02)

    def test_a_crop_is_what_the_box_says(self, shards: Path) -> None:
        from PIL import Image

        from avdata.frames import encode_jpeg
        from avdata.shards.views import view_image

        ramp = np.broadcast_to(np.arange(0, 256, 4, np.uint8)[None, :, None], (64, 64, 3))
        data = encode_jpeg(np.ascontiguousarray(ramp), 100)
        view = View(image_size_px=32, crop_area=(0.4, 0.6))
        seen = view_image(data, view, np.random.default_rng(3))
        box = random_box(64, 64, view, np.random.default_rng(3))
        expected = np.asarray(Image.fromarray(ramp).crop(box).resize((32, 32), 2))
        assert np.abs(seen.astype(int) - expected).max() <= 3
        mirrored = view_image(data, View(flip=True), np.random.default_rng(0))
        plain = view_image(data, View(), np.random.default_rng(0))
        assert np.random.default_rng(0).random() >= 0.5 or np.array_equal(mirrored, plain[:, ::-1])

    def test_a_plain_crop_is_a_place_of_the_squashed_picture(self) -> None:
        """Every place is met, all that is cut out keeps its scale, and a flip is one of these."""
        from PIL import Image

        from avdata.frames import encode_jpeg
        from avdata.shards.views import view_image

        rows, columns = np.mgrid[0:60:2, 0:240:8].astype(np.uint8)  # 30 x 30
        picture = np.stack([rows + 60, columns, rows], axis=2)
        data = encode_jpeg(np.repeat(picture, 2, axis=0), 100)  # 60 high, 30 wide
        whole = np.asarray(Image.open(BytesIO(data)).resize((10, 10), Image.Resampling.BILINEAR))
        view = View(image_size_px=8, load_size_px=10)
        places = set()
        for seed in range(60):
            seen = view_image(data, view, np.random.default_rng(seed))
            found = [
                (top, left)
                for top in range(3)
                for left in range(3)
                if np.array_equal(whole[top : top + 8, left : left + 8], seen)
            ]
            assert len(found) == 1
            places.update(found)
        assert len(places) == 9
        same = view_image(data, View(image_size_px=10, load_size_px=10), np.random.default_rng(0))
        np.testing.assert_array_equal(same, whole)

    @pytest.mark.parametrize(
        "bad",
        [
            {"load_size_px": 8},
            {"load_size_px": 8, "image_size_px": 9},
            {"load_size_px": 8, "image_size_px": 8, "crop_area": (0.5, 1.0)},
            {"crop_area": (0.5, 0.1), "image_size_px": 8},
            {"crop_area": (0.5, 1.0)},
            {"image_size_px": 0},
            {"audio_s": 0.0},
            {"frame": "even"},
            {"n_frames": 2},
            {"frame": "random", "n_frames": 0},
        ],
    )
    def test_views_out_of_range_are_refused(self, bad: dict) -> None:
        with pytest.raises(ValueError, match=r"must|needs"):
            View(**bad)


class TestErrors:
    def test_unknown_split(self, shards: Path) -> None:
        with pytest.raises(ShardError, match=r"no clips in split 'dev'.*'train': 23"):
            Loader(shards, "dev", batch_size=1)

    def test_no_shards(self, tmp_path: Path) -> None:
        with pytest.raises(ShardError, match="not a folder of shards"):
            Loader(tmp_path, batch_size=1)

    def test_a_changed_dataset_file(self, shards: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(shards, tmp_path / "copy"))
        path = copy / DATASET_NAME
        path.write_text(path.read_text().replace('"clips": 23', '"clips": 24'))
        with pytest.raises(ShardError, match="changed"):
            Loader(copy, batch_size=1)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_damaged_media_name_the_clip(self, shards: Path, tmp_path: Path, workers: int) -> None:
        copy = Path(shutil.copytree(shards, tmp_path / "copy"))
        for tar in copy.glob("*.tar"):
            tar.write_bytes(b"?" * tar.stat().st_size)
        with pytest.raises(ShardError, match=r"cannot decode clip\d+ in .*avdata verify"):
            next(iter(Loader(copy, batch_size=1, workers=workers)))
        for tar in copy.glob("*.tar"):
            tar.unlink()
        with pytest.raises(ShardError, match="missing"):
            next(iter(Loader(copy, batch_size=1, workers=workers)))

    def test_sizes_out_of_range(self, shards: Path) -> None:
        for bad in ({"batch_size": 0}, {"batch_size": 1, "rank": 2, "world_size": 2}):
            with pytest.raises(ValueError, match="batch_size >= 1"):
                Loader(shards, **bad)


def test_remote_shards_read_the_same(shards: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/loader-test", recursive=True)
    try:
        local = list(Loader(shards, batch_size=4))
        remote = list(Loader("memory://loader-test", batch_size=4))
    finally:
        memory.rm("/loader-test", recursive=True)
    assert keys(local) == keys(remote)
    for one, other in zip(local, remote, strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.audio, other.audio)


def test_loading_imports_no_heavy_module(shards: Path) -> None:
    code = (
        "import sys; from avdata.loader import Loader; "
        f"next(iter(Loader({str(shards)!r}, batch_size=2))); "
        "bad = {'torch', 'dask', 'av', 'onnxruntime', 'webdataset'} & set(sys.modules); "
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
