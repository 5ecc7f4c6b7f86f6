"""Class prediction and keyword: what the shards say of a clip, as the vector that is drawn by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avdata.errors import SettingsError
from avdata.measures import class_names
from stages.avstyle.conditions import ClassVector, read_told, read_word_vectors

WORDS = "rain 1 0 0\nWind 0 2 0\nhail 0 0 4\n"


def test_scores_of_the_best_classes_are_those_of_the_shards(shards: Path) -> None:
    """The factory's clips score 0, 1/1040, 2/1040 ... 0.5 for YAMNet's classes in their order."""
    told = read_told(str(shards), "classes")
    assert told.names == class_names()
    expected = np.linspace(0, 0.5, 521, dtype=np.float32)
    expected[:-10] = 0
    scores = told.scores(["clip0004", "clip0025"])
    np.testing.assert_array_equal(scores.numpy(), np.stack([expected] * 2))


def test_labels_count_alike(shards: Path) -> None:
    told = read_told(str(shards), "keyword")
    assert told.names == ("rain", "wind")
    assert told.scores(["clip0002", "clip0003"]).tolist() == [[0, 0], [1, 1]]


def test_without_labels_it_says_what_to_do(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs labels, and not one of the 0 clips of dev"):
        read_told(str(shards), "keyword", split="dev")
    with pytest.raises(SettingsError, match=r"YAMNet's tags.* name yamnet in steps\.tag\.taggers"):
        read_told(str(shards), "classes", split="dev")


def test_a_table_is_learnt_where_there_are_no_word_vectors() -> None:
    torch.manual_seed(0)
    model = ClassVector(names=["rain", "wind", "hail"], out_dim=5)
    weight, bias = model.table.weight, model.table.bias
    told = model(torch.tensor([[0.0, 0.2, 0.0], [0.3, 0.0, 0.1], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(told[0], weight[:, 1] + bias)
    torch.testing.assert_close(told[1], 0.75 * weight[:, 0] + 0.25 * weight[:, 2] + bias)
    torch.testing.assert_close(told[2], bias)  # nothing heard, and no NaN


def test_the_ten_best_count_whatever_the_rest_sums_to() -> None:
    model = ClassVector(names=class_names(), out_dim=5)
    scores = torch.rand(2, 521, generator=torch.Generator().manual_seed(0))
    kept = torch.where(scores >= scores.sort(dim=1).values[:, -10:-9], scores, 0.0)
    assert (kept > 0).sum(dim=1).tolist() == [10, 10]
    torch.testing.assert_close(model(scores), model(kept))


def test_word_vectors_are_given_and_kept_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("3 3\n" + WORDS)
    names = ("Rain", "Wind, hail (storm)")
    words = read_word_vectors(str(tmp_path / "words.txt"), names)
    assert words.tolist() == [[1, 0, 0], [0, 1, 2]]
    model = ClassVector(names=names, word_dim=3, out_dim=4)
    model.words = words
    told = model(torch.tensor([[1.0, 3.0]]))
    expected = model.table(torch.tensor([[0.25, 0.75, 1.5]]))
    torch.testing.assert_close(told, expected)
    assert {name for name, _ in model.named_parameters()} == {"table.weight", "table.bias"}
    again = ClassVector(names=names, word_dim=3, out_dim=4)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(torch.tensor([[1.0, 3.0]])), told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WORDS.replace("rain", "snow"), "knows no word of 1 of 2 classes, such as 'Rain'"),
        (WORDS + "hail 1 2", "line 4: vectors differ in length, [2, 3]"),
        (WORDS + "hail 1 x 3", "cannot read word vectors from"),
        (WORDS + "hail 1 nan 3", "line 4 has no finite numbers after 'hail'"),
        (None, "No such file"),
    ],
)
def test_word_vectors_that_are_none(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "words.txt").write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_word_vectors(str(tmp_path / "words.txt"), ("Rain", "Wind, hail (storm)"))
    assert words in str(refused.value)
