"""Features of texts and of every frame, once each, whatever is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from avdata.errors import SettingsError
from stages.nn.encoder import Encoder
from stages.pairs.clips import PairReader, read_clips
from stages.pairs.features import FeatureCache
from stages.pairs.samples import every_frame_of, frames_of
from stages.pairs.texts import text_table
from tests.shard_factory import Made, picture


class Plain(Encoder):
    """A text's length and first letter; a picture's mean colour; counts what it reads."""

    def __init__(self, dim: int) -> None:
        self.dim, self.description, self.read = dim, "plain", 0

    def fingerprint(self) -> dict[str, Any]:
        return {"plain": self.dim}

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.read += len(texts)
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.read += len(images)
        return np.stack([image.mean(axis=(0, 1), dtype=np.float32) for image in images])


def test_each_text_is_encoded_once(tmp_path: Path) -> None:
    cache, encoder = FeatureCache(tmp_path, batch_size=2), Plain(2)
    asked = ["snow", "fire", "snow", "a river", "fire", "snow"]
    table = text_table(cache, asked, encoder)
    assert (len(table), encoder.read) == (3, 3)
    expected = [[len(text), ord(text[0])] for text in asked]
    np.testing.assert_array_equal(table.features.values[table.rows(asked)], expected)
    again = text_table(cache, reversed(asked), encoder)
    assert encoder.read == 3
    assert again.features.digest == table.features.digest
    assert text_table(cache, [*asked, "mud"], encoder).features.digest != table.features.digest
    with pytest.raises(KeyError, match="thunder"):
        table.rows(["thunder"])


@pytest.mark.parametrize("texts", [[], ["snow", " "]])
def test_nothing_to_encode_is_refused(texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="to encode"):
        text_table(FeatureCache(tmp_path), texts, Plain(2))


def test_every_frame_stands_at_its_number(tmp_path: Path, shards: Path) -> None:
    """The rows that a pair reader names hold the frame that it names."""
    clips = read_clips(str(shards), "train", frames="picked")
    cache = FeatureCache(tmp_path, batch_size=5)
    table = cache.of(every_frame_of(clips), Plain(3))
    assert len(table) == sum(map(len, clips.frames)) == 2 * len(clips)
    pairs = PairReader(clips, n_samples=100, seed=0)(np.arange(len(clips)), 1)
    for key, row, at in zip(pairs.keys, pairs.frame_rows, clips.first_frame, strict=True):
        made = Made(int(key[4:]))
        colour = picture(made, made.picks[row - at]).mean(axis=(0, 1))
        np.testing.assert_allclose(table.values[row], colour, atol=3)  # JPEG
    assert cache.of(frames_of(clips), Plain(3)).digest != table.digest
