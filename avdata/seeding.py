"""Randomness keyed by seed, step and key, so that 1 and 16 workers give the same result."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def keyed_hash(seed: int, step: str, key: str) -> int:
    """Return a uniform 64-bit integer that depends on nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}\0{step}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def keyed_fraction(seed: int, step: str, key: str) -> float:
    """Return a uniform number in [0, 1) that depends on nothing but its arguments."""
    return keyed_hash(seed, step, key) / 2**64


def rng_for(seed: int, step: str, key: str) -> np.random.Generator:
    """Return the generator for one clip in one step."""
    import numpy as np

    return np.random.default_rng(keyed_hash(seed, step, key))
