"""What is said of labels: names, texts of a file, prompts, and other words."""

from __future__ import annotations

from pathlib import Path

import pytest

from avdata.errors import SettingsError
from stages.sound_guided.text_augment import TextAugment
from stages.sound_guided.texts import (
    TextSettings,
    class_text,
    label_texts,
    said_otherwise,
    without_synonyms,
)
from tests.stages.sound_guided.tiny_wordnet import write_wordnet

LABELS = ["dog_bark", "sea waves"]


def test_names_of_classes() -> None:
    assert [class_text(name) for name in ("dog_bark", "_car__horn", "rain")] == [
        "dog bark",
        "car horn",
        "rain",
    ]
    found = label_texts(LABELS, TextSettings(prompt="the sound of {}, loud"))
    assert found == {
        "dog_bark": ("the sound of dog bark, loud",),
        "sea waves": ("the sound of sea waves, loud",),
    }


def test_texts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.yaml"
    file.write_text("dog_bark: [a dog barks, barking]\nsea waves: the sea\nunused: x\n")
    found = label_texts(LABELS, TextSettings(file=str(file)))
    assert found == {"dog_bark": ("a dog barks", "barking"), "sea waves": ("the sea",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog_bark: a dog\n", "1 of 2 labels have no text in .*'sea waves'"),
        ("dog_bark: a dog\nsea waves: ''\n", "'sea waves'"),
        ("dog_bark: a dog\nsea waves: []\n", "'sea waves'"),
        ("dog_bark: yes\nsea waves: sea\n", "'dog_bark' has no text but 'True'; quote"),
        ("- dog_bark\n", "holds no `label: text`"),
        ("a: b: c", "cannot read the texts in"),
    ],
)
def test_files_that_will_not_do(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "texts.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=words):
        label_texts(LABELS, TextSettings(file=str(file)))


def test_a_label_that_says_nothing() -> None:
    with pytest.raises(SettingsError, match="1 of 2 labels have no text in its name: '__'"):
        label_texts(["__", "rain"], TextSettings())


def test_other_ways_are_few_different_and_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.sound_guided.texts.find_wordnet", lambda: None)  # swaps alone
    texts = {"a": ("one two three", "four"), "b": ("five",)}
    settings = TextSettings(variants=6)
    found = said_otherwise(texts, settings, seed=3)
    assert found["a"][:2] == texts["a"]
    assert found["b"] == ("five",)  # a single word has no other order
    others = found["a"][2:]
    assert 0 < len(others) <= 5
    assert len(set(found["a"])) == len(found["a"])
    for text in others:
        assert sorted(text.split()) == ["one", "three", "two"]
    assert said_otherwise(texts, settings, seed=3) == found
    assert any(said_otherwise(texts, settings, seed=s) != found for s in range(4, 8))
    assert said_otherwise(texts, TextSettings(variants=1), seed=3) == texts


def test_texts_that_have_no_synonyms_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"a": ("dog bark", "Regen"), "b": ("car",)}
    monkeypatch.setattr("stages.sound_guided.texts.find_wordnet", lambda: None)
    assert "run: avdata weights get wordnet" in without_synonyms(texts, TextSettings())
    assert without_synonyms(texts, TextSettings(variants=1)) == ""
    known = TextSettings(wordnet=str(write_wordnet(tmp_path / "wordnet")))
    assert without_synonyms(texts, known) == ""  # one of three
    foreign = {"a": ("Regen", "Hund"), "b": ("car",)}
    told = without_synonyms(foreign, known)
    assert told.startswith("2 of 3 texts have no synonyms in ")
    assert "'Regen', 'Hund': WordNet knows English alone" in told


def test_texts_of_a_file_alone_get_insertions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inserts: list[bool] = []
    begin = TextAugment.__init__

    def keep(self: TextAugment, wordnet: str | None, *, insert: bool = True) -> None:
        inserts.append(insert)
        begin(self, wordnet, insert=insert)

    monkeypatch.setattr(TextAugment, "__init__", keep)
    said_otherwise({"a": ("one two",)}, TextSettings(), seed=0)
    said_otherwise({"a": ("one two",)}, TextSettings(file="any"), seed=0)
    assert inserts == [False, True]
