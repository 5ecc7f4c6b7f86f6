"""A folder of WordNet with a handful of synsets, written as wndb(5WN) describes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

LICENCE = "  1 This is no WordNet, only a folder that looks like one.  \n"
LETTERS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}

SYNSETS = (
    ("noun", ("dog", "domestic_dog", "Canis_familiaris")),
    ("noun", ("rain", "rainfall")),
    ("noun", ("child", "kid")),
    ("noun", ("car", "auto", "automobile")),
    ("verb", ("bark",)),
    ("verb", ("rain", "rain_down")),
    ("adj", ("loud(p)", "noisy(a)")),
    ("adv", ("loudly", "loud", "aloud")),
)


def write_wordnet(folder: Path, synsets: Sequence[tuple[str, Sequence[str]]] = SYNSETS) -> Path:
    """Write index, data and exceptions of all four parts of speech, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, letter in LETTERS.items():
        data, index = LICENCE, defaultdict(list)
        for kind, words in synsets:
            if kind != part:
                continue
            offset = len(data.encode())
            listed = " ".join(f"{word} 0" for word in words)
            data += f"{offset:08d} 03 {letter} {len(words):02x} {listed} 000 | a gloss  \n"
            for word in words:
                index[word.split("(")[0].lower()].append(offset)
        (folder / f"data.{part}").write_text(data)
        lines = (
            f"{lemma} {letter} {len(at)} 0 {len(at)} 0 "
            + " ".join(f"{offset:08d}" for offset in at)
            + "  \n"
            for lemma, at in sorted(index.items())
        )
        (folder / f"index.{part}").write_text(LICENCE + "".join(lines))
        (folder / f"{part}.exc").write_text("children child\n" if part == "noun" else "")
    return folder
