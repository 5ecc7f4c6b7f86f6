"""The best evaluation so far, and whether it still pays to wait for a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from avdata.errors import SettingsError
from stages.engine.errors import TrainingError
from stages.engine.settings import TrainSettings


class Best:
    """Follows one evaluated metric; the same on all ranks, as they are given the same values."""

    def __init__(self, train: TrainSettings) -> None:
        self.metric, self.patience = train.keep_best, train.patience
        self.sign = 1.0 if train.best_is == "highest" else -1.0
        self.step: int | None = None  # of the best evaluation
        self.value = -self.sign * math.inf
        self.waited = 0  # evaluations since the best one

    def update(self, step: int, values: Mapping[str, float]) -> bool:
        """Take in an evaluation; return whether it is the best so far."""
        if self.metric is None:
            return False
        if self.metric not in values:
            raise SettingsError(
                f"train.keep_best is {self.metric!r}; evaluated are {', '.join(sorted(values))}"
            )
        value = values[self.metric]
        if not math.isfinite(value):
            raise TrainingError(f"{self.metric} is {value} at step {step}; lower the learning rate")
        if self.sign * (value - self.value) > 0:
            self.step, self.value, self.waited = step, value, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether `patience` evaluations in a row were not better."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "value": self.value, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.value, self.waited = state["step"], state["value"], state["waited"]
