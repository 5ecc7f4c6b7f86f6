"""What can go wrong in training beside wrong settings and wrong shards."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from avdata.errors import AvdataError


class TrainingError(AvdataError):
    """Training cannot go on: a loss that is not finite, no memory left."""


class CheckpointError(AvdataError):
    """A checkpoint is missing, damaged, or was made by something else."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest one, or all."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
