"""A vocabulary for the captions of a small world, in the layout of CLIP's.

Byte pair encoding (Sennrich et al., ACL 2016) over bytes: 256 letters, the same ending a word,
merged pieces, the marks of beginning and end. Every byte is known, so that any text has a code; the
words of a small world are one token each. Texts are split into words as CLIP's tokenizer does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avdata.store import Store
from stages.text_image.model import read_tokenizer

PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = [chr(b) for b in PRINTABLE] + [chr(256 + n) for n in range(256 - len(PRINTABLE))]
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

Pair = tuple[str, str]


def numbers(merges: Sequence[Pair]) -> dict[str, int]:
    """Return the number of each token."""
    tokens = [*LETTERS, *(letter + WORD_END for letter in LETTERS), *map("".join, merges)]
    return {token: n for n, token in enumerate([*tokens, BEGIN, END])}


def learn_merges(captions: Iterable[str], most: int) -> list[Pair]:
    """Return which neighbours become one token, the most frequent first, at most so many."""
    with TemporaryDirectory() as folder:
        write_tokenizer(Store(folder), [], max_tokens=77)
        splitter = read_tokenizer(Path(folder)).backend_tokenizer
    counts: Counter[str] = Counter()
    for caption in captions:
        plain = splitter.normalizer.normalize_str(caption)
        counts.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(plain))
    words = {word: [*word[:-1], word[-1] + WORD_END] for word in counts}
    merges: list[Pair] = []
    while len(merges) < most:
        pairs: Counter[Pair] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: merged(pieces, best) for word, pieces in words.items()}
    return merges


def merged(pieces: Sequence[str], pair: Pair) -> list[str]:
    """Return the pieces of a word with each such pair, from the left, made one."""
    found: list[str] = []
    for piece in pieces:
        # What has just been made one ends in `pair` as a whole, so it is no first half again.
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found


def write_tokenizer(store: Store, merges: Sequence[Pair], *, max_tokens: int) -> None:
    """Write the files of which transformers makes a CLIPTokenizer."""
    text = "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n"
    store.write_bytes("merges.txt", text.encode())
    write_json(store, "vocab.json", numbers(merges))
    marks = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    facts = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_tokens}
    write_json(store, "tokenizer_config.json", {**facts, **marks})


def write_json(store: Store, name: str, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole."""
    store.write_bytes(name, json.dumps(value, ensure_ascii=False, indent=1).encode())
