"""WordNet against NLTK's reader, and what augmentation does to texts of every kind."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avdata import weights
from avdata.errors import SettingsError
from stages.sound_guided import wordnet
from stages.sound_guided.text_augment import GRAMMAR, MAX_WORDS, TextAugment
from stages.sound_guided.wordnet import WordNet, find_wordnet
from tests.stages.sound_guided.tiny_wordnet import write_wordnet

REAL = Path(os.environ.get("AVDATA_TEST_WORDNET", "/usr/share/wordnet"))
"""A real WordNet; Debian's is where wordnet-base puts it."""

# Found as they are, inflected, irregular, of several words, not at all.
_WORDS = (
    "dog Dogs barking thunder children geese men playing played cries boxes churches louder "
    "loudest easily siren xylophone crept better zzz Bach 1 o'clock polka_dot"
)
WORDS = _WORDS.split()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordnet(tmp_path_factory.mktemp("wordnet"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def said(augment: TextAugment, text: str, n: int = 200) -> set[str]:
    return {augment(text, rng(seed)) for seed in range(n)}


def test_synonyms_of_a_small_wordnet(tiny: Path) -> None:
    found = WordNet(tiny)
    assert found.synonyms("dog") == ("Canis familiaris", "domestic dog")
    assert found.synonyms("DOGS") == ("Canis familiaris", "dog", "domestic dog")
    assert found.synonyms("rain") == ("rain down", "rainfall")  # noun and verb
    assert found.synonyms("children") == ("child", "kid")  # irregular
    assert found.synonyms("domestic dog") == ("Canis familiaris", "dog")
    assert found.synonyms("loud") == ("aloud", "loudly", "noisy")  # markers are no letters
    assert found.synonyms("Hund") == found.synonyms("aa") == ()
    assert found.synonyms("") == found.synonyms("s") == ()  # nothing is left of them


def nltk_synonyms(folder: Path, copy: Path) -> dict[str, tuple[str, ...]]:
    """Ask NLTK's reader, which wants two files that Debian leaves out."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    nltk.data.path.append(str(copy))  # it opens nothing elsewhere
    copy = copy / "corpora/wordnet"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    if not (copy / "lexnames").exists():
        (copy / "lexnames").write_text("".join(f"{n:02d}\tname.{n}\t1\n" for n in range(45)))
    (copy / "index.sense").touch()
    reader = WordNetCorpusReader(str(copy), None)
    found = {}
    for word in WORDS:
        names = {
            lemma.name().replace("_", " ") for s in reader.synsets(word) for lemma in s.lemmas()
        }
        found[word] = tuple(sorted(name for name in names if name.lower() != word.lower()))
    return found


def test_as_nltk_reads_the_whole_of_wordnet(tmp_path: Path) -> None:
    pytest.importorskip("nltk")
    if not (REAL / "data.noun").is_file():
        pytest.skip(f"no WordNet in {REAL}: install wordnet-base, or set AVDATA_TEST_WORDNET")
    own = WordNet(REAL)
    expected = nltk_synonyms(REAL, tmp_path)
    assert {word: own.synonyms(word) for word in WORDS} == expected
    assert sum(map(bool, expected.values())) > 12


def test_each_operation_alone(tiny: Path) -> None:
    assert said(TextAugment(None), "dog rain") == {"rain dog"}  # two words: the swap is certain
    one = said(TextAugment(tiny, insert=False), "dog")
    assert one == {"Canis familiaris", "domestic dog"}  # of two words, which stay together
    assert said(TextAugment(tiny, insert=False), "(Dog),") == {f"({word})," for word in one}


def test_an_insertion_is_a_synonym_of_one_of_the_words(tiny: Path) -> None:
    # The synonym for "kid" is "child", and that one's is "kid".
    assert said(TextAugment(tiny), "kid") == {"child kid", "kid child"}
    assert said(TextAugment(tiny, insert=False), "kid") == {"child"}


def test_what_cannot_be_done_is_left_out(tiny: Path) -> None:
    augment = TextAugment(tiny)
    assert augment("", rng()) == ""
    assert augment("Regen", rng()) == "Regen"
    assert augment("雨の音", rng()) == "雨の音"
    assert augment("in the", rng()) == "the in"  # grammar
    assert sorted(augment("leiser Regen fällt", rng()).split()) == ["Regen", "fällt", "leiser"]
    assert augment.knows("the rain")
    assert not augment.knows("der Regen in the")
    assert not TextAugment(None).knows("dog")


def test_all_choices_are_equally_likely(tiny: Path) -> None:
    augment = TextAugment(tiny, insert=False)
    n = 3000
    found = Counter(augment("car", rng(seed)) for seed in range(n))
    assert found.keys() == {"auto", "automobile"}
    assert abs(found["auto"] / n - 0.5) < 4 * np.sqrt(0.25 / n)
    places = Counter(TextAugment(None)("a b c", rng(seed)) for seed in range(n))
    assert places.keys() == {"b a c", "c b a", "a c b"}
    assert all(abs(count / n - 1 / 3) < 4 * np.sqrt(2 / 9 / n) for count in places.values())


words = st.sampled_from(["dog", "rain,", "Kid", "loud", "in", "the", "zzz", "children."])


@given(st.lists(words, max_size=MAX_WORDS + 8), st.integers(0, 2**32), st.booleans())
def test_lengths_and_repeats(tiny: Path, text: list[str], seed: int, insert: bool) -> None:
    augment = TextAugment(tiny, insert=insert)
    joined = " ".join(text)
    found = augment(joined, rng(seed)).split()
    assert found == augment(joined, rng(seed)).split()
    assert len(text) <= len(found) <= max(len(text), MAX_WORDS)
    assert len(found) <= len(text) + (3 if insert else 1)  # a synonym here has two words at most
    kept = sum((Counter(text) & Counter(found)).values())
    assert kept >= len(text) - 1  # one word at most was said otherwise


def test_grammar_is_not_said_otherwise() -> None:
    assert {"in", "the", "a", "of", "on"} <= GRAMMAR


def test_a_folder_that_is_no_wordnet(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(SettingsError, match=r"is no folder of WordNet: index\.noun.*get wordnet"):
        TextAugment(tmp_path)
    damaged = write_wordnet(tmp_path / "damaged")
    (damaged / "data.noun").write_bytes(b"  " + (damaged / "data.noun").read_bytes())
    with pytest.raises(SettingsError, match=r"data\.noun: no synset begins at byte"):
        WordNet(damaged).synonyms("dog")


def test_where_wordnet_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wordnet, "PLACES", (str(tmp_path / "none"), str(tmp_path / "here")))
    assert find_wordnet() is None
    here = write_wordnet(tmp_path / "here")
    assert find_wordnet() == here
    for name in weights.entry(wordnet.WEIGHTS).files:  # the cache's comes first
        path = weights.cached_folder(wordnet.WEIGHTS) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with pytest.raises(weights.WeightsError, match="another file"):
        find_wordnet()
