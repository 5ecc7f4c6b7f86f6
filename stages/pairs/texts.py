"""Features of texts, each computed once however often it is asked for.

table = text_table(cache, (caption for clip in captions for caption in clip), encoder)
table.features.values[table.rows(["a photo of snow"])]  # float32 [1, D]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avdata.errors import SettingsError
from stages.nn.encoder import Encoder
from stages.pairs.features import FeatureCache, FeatureTable
from stages.pairs.samples import texts_of


@dataclass(frozen=True, slots=True)
class TextTable:
    """Different texts [M], their features [M, D], and the row of each."""

    texts: Sequence[str]
    features: FeatureTable
    row_of: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, texts: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows [B] of texts, any of which may repeat; KeyError for one without."""
        return np.array([self.row_of[text] for text in texts], np.int64)


def text_table(cache: FeatureCache, texts: Iterable[str], encoder: Encoder) -> TextTable:
    """Return the features of all texts, sorted, computing what the cache does not hold yet.

    Raises SettingsError where there is no text, or one that is empty.
    """
    own = sorted(set(texts))
    if not own or not all(text.strip() for text in own):
        raise SettingsError(f"of {len(own)} texts to encode, none may be empty, and one must be")
    table = cache.of(texts_of(own), encoder)
    return TextTable(own, table, {text: row for row, text in enumerate(own)})
