"""Synonyms out of WordNet's own files: index.*, data.* and *.exc, as the manual wndb(5WN) has them.

Read here and not by NLTK, whose reader wants files (lexnames, index.sense) that Debian's
wordnet-base leaves out, and takes seconds to import.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from avdata import weights
from avdata.errors import SettingsError

WEIGHTS = "wordnet"
"""Its row in the table of weights."""

PLACES = (
    "/usr/share/wordnet",  # Debian: wordnet-base
    "~/nltk_data/corpora/wordnet",
    "/usr/share/nltk_data/corpora/wordnet",
    "/usr/local/share/nltk_data/corpora/wordnet",
)

# morphy(7WN): endings that are taken off, and what is put in their place.
ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z")),
        *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    ),
    "verb": (
        *(("s", ""), ("ies", "y"), ("es", "e"), ("es", "")),
        *(("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}


class WordNet:
    """One folder of WordNet: asked for words, it keeps what it has answered."""

    def __init__(self, folder: str | Path) -> None:
        """Open the folder; raises SettingsError if files are missing or not WordNet's."""
        self.folder = Path(folder)
        self._index = {part: self._open(f"index.{part}") for part in ENDINGS}
        self._data = {part: self._open(f"data.{part}") for part in ENDINGS}
        self._exceptions = {part: self._read_exceptions(part) for part in ENDINGS}
        self._known: dict[str, tuple[str, ...]] = {}

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return the other members of all synsets of a word, sorted; () if it is in none.

        word: in any case and inflection (`Barking` finds `bark`). Its own spelling is left out.
        """
        lower = word.lower()
        if lower not in self._known:
            found = {
                synonym
                for part in ENDINGS
                for form in self._forms(lower, part)
                for offset in self._offsets(form, part)
                for synonym in self._members(offset, part)
            }
            self._known[lower] = tuple(sorted(s for s in found if s.lower() != lower))
        return self._known[lower]

    def _forms(self, word: str, part: str) -> set[str]:
        """Return the word, and what it may be an inflection of."""
        irregular = self._exceptions[part].get(word)
        if irregular is not None:
            return {word, *irregular}
        ends = [(end, new) for end, new in ENDINGS[part] if word.endswith(end)]
        return {word, *(word[: -len(end)] + new for end, new in ends)} - {""}

    def _offsets(self, form: str, part: str) -> list[int]:
        """Return where the synsets of a lemma stand in data.*, by bisection in index.*."""
        lemma, lines = form.replace(" ", "_").encode(), self._index[part]
        low, high = 0, len(lines)  # the line wanted begins in [low, high)
        while low < high:
            start = lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = lines.find(b"\n", start)
            end = len(lines) if end < 0 else end
            fields = lines[start:end].split(b" ")  # the licence at the top begins with a space
            if fields[0] == lemma:
                return [int(field) for field in lines[start:end].split()[-int(fields[2]) :]]
            low, high = (end + 1, high) if fields[0] < lemma else (low, start)
        return []

    def _members(self, offset: int, part: str) -> list[str]:
        """Return the words of one synset: `offset file type n(hex) word id word id ... | gloss`."""
        lines = self._data[part]
        fields = lines[offset : lines.find(b"\n", offset)].decode().split(" ")
        if fields[0] != f"{offset:08d}":
            raise self._damaged(f"data.{part}", f"no synset begins at byte {offset}")
        words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        return [word.split("(")[0].replace("_", " ") for word in words]  # good(p): predicative

    def _open(self, name: str) -> mmap.mmap:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise self._damaged(name, str(error)) from None

    def _read_exceptions(self, part: str) -> dict[str, list[str]]:
        path = self.folder / f"{part}.exc"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise self._damaged(path.name, str(error)) from None
        return {word: forms for word, *forms in map(str.split, filter(str.strip, lines))}

    def _damaged(self, name: str, what: str) -> SettingsError:
        return SettingsError(
            f"{self.folder} is no folder of WordNet: {name}: {what}; install Debian's "
            f"wordnet-base, or run: avdata weights get {WEIGHTS}"
        )


def find_wordnet() -> Path | None:
    """Return the folder of the first WordNet on this machine, None if it has none."""
    if weights.is_here(WEIGHTS):
        return weights.folder(WEIGHTS, download=False)
    found = (Path(place).expanduser() for place in PLACES)
    return next((place for place in found if (place / "data.noun").is_file()), None)
