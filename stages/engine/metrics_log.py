"""What was measured at each step: metrics.jsonl, and the same for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avdata.store import Store

METRICS_NAME = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class MetricsLog:
    """Appends lines; lines after `step`, left by a run that was killed, are taken back first."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        Store(str(folder)).write_bytes(METRICS_NAME, text.encode())
        self._file = (folder / METRICS_NAME).open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line, on the disk at once."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's metrics.jsonl; none if there is no file."""
    path = folder / METRICS_NAME
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a killed run may leave a part of a line
    return [json.loads(line) for line in whole.splitlines()]
