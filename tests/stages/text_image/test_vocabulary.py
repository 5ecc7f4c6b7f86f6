"""Vocabularies of small worlds, as transformers reads them, and the captions made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avdata.store import Store
from stages.text_image.captions import Captions, captions, class_text, require_prompts
from stages.text_image.vocabulary import learn_merges, merged, numbers, write_tokenizer
from tests.stages.text_image.tiny_models import transformers

CAPTIONS = ["snow crunch", "a photo of snow crunch", "low low low", "lower"]


def tokenizer_of(folder: Path, most: int) -> transformers.CLIPTokenizer:
    write_tokenizer(Store(str(folder)), learn_merges(CAPTIONS, most), max_tokens=77)
    return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def test_the_most_frequent_neighbours_are_merged_first() -> None:
    """By hand: low ×3 and lower share l, o; then the ends of words; ties in alphabetical order."""
    assert learn_merges(["low low low", "lower"], 3) == [
        ("l", "o"),
        ("lo", "w</w>"),
        ("e", "r</w>"),
    ]
    assert learn_merges(CAPTIONS, 10_000) == learn_merges(reversed(CAPTIONS), 10_000)


@pytest.mark.parametrize(
    ("pieces", "found"),
    [("a a a b", "aa a b"), ("a a a a", "aa aa"), ("b a", "b a"), ("a", "a")],
)
def test_a_pair_is_merged_from_the_left(pieces: str, found: str) -> None:
    assert merged(pieces.split(), ("a", "a")) == found.split()


def test_words_of_the_captions_are_one_token_and_any_text_has_a_code(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(tmp_path, 10_000)
    begin, end = len(tokenizer) - 2, len(tokenizer) - 1
    ids = tokenizer("A photo  of Snow")["input_ids"]
    assert len(ids) == 6
    assert (ids[0], ids[-1]) == (begin, end)
    assert tokenizer.convert_ids_to_tokens(ids[1:5]) == ["a</w>", "photo</w>", "of</w>", "snow</w>"]
    strange = "zebra öl 雪 🦓!"
    unknown = tokenizer(strange)["input_ids"]
    assert end not in unknown[:-1]  # which stands for what has no code
    # Every byte comes back; between words CLIP's tokenizer keeps no count of spaces.
    assert tokenizer.decode(unknown[1:-1]).replace(" ", "") == strange.replace(" ", "")
    assert len(numbers([])) == 514


def test_a_text_as_long_as_the_whole_vocabulary_allows(tmp_path: Path) -> None:
    """With no merges every letter is a token."""
    ids = tokenizer_of(tmp_path, 0)("snow low")["input_ids"]
    assert len(ids) == 2 + 7


def test_captions_are_all_classes_by_all_prompts(tmp_path: Path) -> None:
    texts = captions(["snow_crunch", "low"], ["{}", "a photo of {}"])
    assert texts == ["snow crunch", "a photo of snow crunch", "low", "a photo of low"]
    assert class_text(" dog__barking ") == "dog barking"
    tokenizer = tokenizer_of(tmp_path, 10_000)
    words = Captions.of(texts, tokenizer, prompts=2, max_tokens=77)
    rng = torch.Generator().manual_seed(0)
    ids, mask = words.drawn(torch.tensor([1] * 40), rng)
    seen = {tuple(row[on.bool()].tolist()) for row, on in zip(ids, mask, strict=True)}
    assert seen == {tuple(tokenizer(text)["input_ids"]) for text in texts[2:]}
    ids, mask = words.first()
    own = [row[on.bool()].tolist() for row, on in zip(ids, mask, strict=True)]
    assert own == [tokenizer(text)["input_ids"] for text in (texts[0], texts[2])]
    for wrong in ([], ["a photo"], ["{} by {}"]):
        with pytest.raises(ValueError, match=r"one \{\} for the class"):
            require_prompts(wrong)
