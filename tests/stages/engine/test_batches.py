"""From the loader's integers to tensors, epoch after epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avdata.errors import ShardError
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD, normalise
from avdata.loader import Batch, Loader
from avdata.shards.views import View
from stages.engine.batches import Batches, to_tensors
from stages.engine.rows import RowSource


def test_tensors_are_normalised() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    audio = np.array([[-32768, 0, 16384, 32767], [1, -1, 2, -2]], np.int16)
    batch = Batch(["a", "b"], [["x"], []], image, audio, np.array([4, 2]), 8000)
    tensors = to_tensors(batch, torch.device("cpu"), IMAGENET_MEAN, IMAGENET_STD)
    np.testing.assert_allclose(tensors.image.numpy(), normalise(image), atol=1e-5)
    assert tensors.audio[0].tolist() == [-1.0, 0.0, 0.5, 32767 / 32768]
    assert (tensors.audio_samples.tolist(), len(tensors)) == ([4, 2], 2)
    signed = to_tensors(batch, torch.device("cpu"), (0.5,) * 3, (0.5,) * 3)
    assert signed.image.min() >= -1
    assert signed.image.max() <= 1


def test_frames_keep_their_place_in_time() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 3, 5, 4, 3), dtype=np.uint8)  # [B, T, H, W, 3]
    times_s = np.array([[0.1, 0.2, 1 / 3], [0.0, 2.5, 9.9]])
    sound, heard = np.zeros((2, 1), np.int16), np.ones(2, np.int64)
    batch = Batch(["a", "b"], [[], []], image, sound, heard, 8000, times_s)
    tensors = to_tensors(batch, torch.device("cpu"), IMAGENET_MEAN, IMAGENET_STD)
    np.testing.assert_allclose(tensors.image.numpy(), normalise(image), atol=1e-5)
    assert tensors.frame_times_s is not None
    assert np.array_equal(tensors.frame_times_s.numpy(), times_s)


@pytest.mark.parametrize(("only", "image", "audio"), [("image", 32, 0), ("audio", 0, 4000)])
def test_what_a_view_leaves_out_is_empty(shards: Path, only: Any, image: int, audio: int) -> None:
    (batch,) = Loader(shards, "test", batch_size=7, view=View(only=only))
    tensors = to_tensors(batch, torch.device("cpu"), IMAGENET_MEAN, IMAGENET_STD)
    assert tensors.image.shape == (7, 3, image, image)
    assert tensors.audio.shape == (7, audio)
    assert tensors.audio_samples.tolist() == [audio] * 7


def micro_batches(shards: Path, accumulate: int, rank: int = 0, ranks: int = 1) -> Batches:
    loader = Loader(
        shards,
        batch_size=4 // (accumulate * ranks),
        seed=1,
        rank=rank,
        world_size=ranks,
        drop_last=True,
    )
    return Batches(loader, lambda batch: batch.keys, accumulate)


def updates(batches: Batches, count: int) -> list[set[str]]:
    """Return the keys of each update."""
    taken = [[next(batches) for _ in range(batches.accumulate)] for _ in range(count)]
    return [{key for keys in update for key in keys} for update in taken]


def test_an_update_holds_the_same_clips_however_divided(shards: Path) -> None:
    whole = updates(micro_batches(shards, 1), 12)  # 22 clips, 5 updates an epoch: two and a bit
    assert all(len(keys) == 4 for keys in whole)
    assert len(set.union(*whole[:5])) == 20
    assert whole[:5] != whole[5:10]
    assert updates(micro_batches(shards, 4), 12) == whole
    parts = [updates(micro_batches(shards, 2, rank, 2), 12) for rank in (0, 1)]
    assert [left | right for left, right in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("stop", [0, 2, 5, 7])
def test_goes_on_anywhere(shards: Path, stop: int) -> None:
    whole = updates(micro_batches(shards, 1), 12)
    first = micro_batches(shards, 1)
    updates(first, stop)
    second = micro_batches(shards, 2)  # with another division, too
    second.load_state_dict(first.state_dict())
    assert updates(second, 12 - stop) == whole[stop:]


@pytest.mark.parametrize("stop", [0, 2, 3, 4])
def test_rows(stop: int) -> None:
    def rows(accumulate: int = 1) -> Batches:
        source = RowSource(10, batch_size=3 // accumulate, seed=5)
        return Batches(source, lambda r: r.tolist(), accumulate)

    whole = updates(rows(), 9)
    for epoch in range(3):
        assert len(set.union(*whole[3 * epoch : 3 * epoch + 3])) == 9
    assert updates(rows(3), 9) == whole
    first, second = rows(), rows(3)
    updates(first, stop)
    second.load_state_dict(first.state_dict())
    assert updates(second, 9 - stop) == whole[stop:]


def test_rows_of_another_array_are_refused() -> None:
    state = RowSource(10, batch_size=2, seed=5).state_dict()
    with pytest.raises(ShardError, match="of n 10, these rows have 12"):
        RowSource(12, batch_size=2, seed=5).load_state_dict(state)
    with pytest.raises(ShardError, match="of of '', these rows have 'other'"):
        RowSource(10, batch_size=2, seed=5, of="other").load_state_dict(state)
