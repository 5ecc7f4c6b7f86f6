"""Probes and trims randomly damaged copies of a video; meant to run in a process of its own."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from avdata.errors import ClipError
from tests.trim_runner import Trimmed, fetched

KINDS = ("truncated", "flipped", "zeroed", "header")


def damaged(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Return `data` cut off, with bits flipped (anywhere or in the first 2 kB), or partly zero."""
    broken = bytearray(data)
    if kind == "truncated":
        return bytes(broken[: rng.integers(1, len(broken))])
    if kind == "zeroed":
        begin, length = int(rng.integers(len(broken))), int(rng.integers(1, 5000))
        broken[begin : begin + length] = bytes(len(broken[begin : begin + length]))
        return bytes(broken)
    reach = 2048 if kind == "header" else len(broken)
    for _ in range(rng.integers(1, 20)):
        broken[rng.integers(reach)] ^= 1 << int(rng.integers(8))
    return bytes(broken)


def fuzz(path: Path, seed: int, count: int, report: Path, **settings: Any) -> None:
    """Append one JSON line per damaged copy to `report`; `settings` are more of trim's.

    It tells how the copy was damaged, how long it took, and the status and reason of each row; a
    file that cannot be probed counts as one failed row.
    """
    whole, rng = path.read_bytes(), np.random.default_rng(seed)
    for number in range(count):
        kind, begin = KINDS[number % len(KINDS)], time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            broken = Path(folder) / f"broken{path.suffix}"
            broken.write_bytes(damaged(whole, kind, rng))
            rows: list[tuple[str, str]]
            try:
                clips = [fetched(broken)]
            except ClipError as error:
                rows = [("failed", str(error.reason))]
            else:
                out = Trimmed(
                    Path(folder) / "run", clips, mode="windows", window_s=1, frames_per_clip=2,
                    threads=1, **{"width_px": 64, "height_px": 64, **settings},
                )  # fmt: skip
                rows = [(str(row.status), row.reason) for row in out.rows]
                for row in out.rows:
                    if row.media is not None:
                        out.sound(row)
                        for frame in row.media.frames:
                            out.picture(row, frame)
        seconds = round(time.monotonic() - begin, 2)
        with report.open("a") as lines:
            lines.write(json.dumps({"kind": kind, "seconds": seconds, "rows": rows}) + "\n")
