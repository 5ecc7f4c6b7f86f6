"""Programs of the project in a process of their own, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(words: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` to its end in the repository's root, on one thread, without a GPU."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
