"""Texts said in other words: EDA's synonym, swap and insertion (Wei and Zou 2019), offline."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.sound_guided.wordnet import WordNet

MAX_WORDS = 40
"""Nothing makes a text longer than this; CLIP takes 75 tokens, about 1.5 of which make a word."""

# Words that carry grammar. WordNet knows many of them as something else: `in` as indium.
_GRAMMAR = (
    "a about above after against all am an and any are as at be been before being below between "
    "both but by can did do does doing down during each few for from further had has have having "
    "he her here hers him his how i if in into is it its just me more most my no nor not now of "
    "off on once only or other our out over own s same she should so some such t than that the "
    "their them then there these they this those through to too under until up very was we were "
    "what when where which while who whom why will with you your"
)
GRAMMAR = frozenset(_GRAMMAR.split())


class TextAugment:
    """Text → text by one synonym, one swap and one insertion, in this order.

    - synonym: one word that WordNet knows becomes one of its synonyms, both drawn uniformly.
    - swap: two words, drawn uniformly, change places.
    - insertion: a synonym of one of the words comes in at any place.

    What cannot be done is left out: a text of one word has no swap; one whose words WordNet does
    not know, as in another language, has a swap alone. Words of grammar have no synonyms here, and
    punctuation stays about its word. A synonym may be several words; no operation makes a text
    longer than MAX_WORDS. The outcome depends on the text and the generator alone.
    """

    def __init__(self, wordnet: str | Path | None, *, insert: bool = True) -> None:
        """Take synonyms from a folder of WordNet; None: swaps alone.

        insert: False for names of classes, whose few words an insertion drowns. Raises
        SettingsError for a folder that is none of WordNet.
        """
        self.wordnet = None if wordnet is None else WordNet(wordnet)
        self.insert = insert

    def __call__(self, text: str, rng: np.random.Generator) -> str:
        """Return the text in other words, its words parted by single spaces."""
        words = self._synonym(text.split(), rng)
        if len(words) > 1:
            one, other = rng.choice(len(words), size=2, replace=False)
            words[one], words[other] = words[other], words[one]
        return " ".join(self._insertion(words, rng) if self.insert else words)

    def knows(self, text: str) -> bool:
        """Tell whether any word of the text has a synonym."""
        return bool(self._choices(text.split(), room=MAX_WORDS))

    def _synonym(self, words: list[str], rng: np.random.Generator) -> list[str]:
        """Return the words, one of them replaced; a synonym of several words stays together."""
        room = max(MAX_WORDS - len(words), 0) + 1
        if not (choices := self._choices(words, room)):
            return words
        place, synonyms = choices[rng.integers(len(choices))]
        bare = words[place].strip(string.punctuation)
        said = words[place].replace(bare, synonyms[rng.integers(len(synonyms))])
        return [*words[:place], said, *words[place + 1 :]]

    def _insertion(self, words: list[str], rng: np.random.Generator) -> list[str]:
        room = MAX_WORDS - sum(len(word.split()) for word in words)
        if not (choices := self._choices(words, room)):
            return words
        _, synonyms = choices[rng.integers(len(choices))]
        place = int(rng.integers(len(words) + 1))
        return [*words[:place], synonyms[rng.integers(len(synonyms))], *words[place:]]

    def _choices(self, words: Sequence[str], room: int) -> list[tuple[int, list[str]]]:
        """Return the place of each word that has synonyms of at most `room` words, and these."""
        if self.wordnet is None:
            return []
        found = []
        for place, word in enumerate(words):
            bare = word.strip(string.punctuation)
            if len(bare) < 2 or bare.lower() in GRAMMAR:
                continue
            synonyms = [s for s in self.wordnet.synonyms(bare) if len(s.split()) <= room]
            if synonyms:
                found.append((place, synonyms))
        return found
