"""The settings that all trainers share, nested in each trainer's own as `train`.

A trainer that needs other defaults derives a class and declares those fields again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, Protocol

from avdata.strict import setting, to_tree

# Settings under `train` that may differ when a training goes on: they leave what is learnt alone,
# or only say how long to learn.
MAY_CHANGE_ON_RESUME = frozenset(
    {
        *("steps", "epochs", "patience", "accumulate", "compile", "device", "workers", "shards"),
        *("log_every", "checkpoint_every", "strategy"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How long, on what, how often saved."""

    epochs: int = setting(50, "How often the training split is gone through.")
    steps: int | None = setting(None, "Updates instead of epochs; null: as many as epochs make.")
    batch_size: int = setting(64, "Clips of one update, over all GPUs and micro-batches together.")
    accumulate: int = setting(
        1, "Micro-batches that make up an update: more of them need less memory, learn the same."
    )
    precision: Literal["fp32", "tf32", "bf16"] = setting(
        "fp32",
        "fp32: exact on CUDA too; tf32: faster matrix products and convolutions there, of 10 bits; "
        "bf16: autocast, weights stay float32.",
    )
    compile: bool = setting(False, "Compile models by torch.compile.")
    clip_norm: float | None = setting(None, "Largest norm of the gradient; null: as it comes.")
    ema_decay: float | None = setting(
        None, "Decay of the averaged weights, for models that have them; null: no averaging."
    )
    ema_start_step: int = setting(0, "Until this step the average is a copy of the weights.")
    log_every: int = setting(50, "Steps between two lines of metrics.jsonl.")
    evaluate_every: int | None = setting(None, "Steps between evaluations; null: once an epoch.")
    checkpoint_every: int = setting(1000, "Steps between checkpoints.")
    keep_best: str | None = setting(
        None, "Evaluated metric that names the best checkpoint; null: the last one is the result."
    )
    best_is: Literal["lowest", "highest"] = setting("lowest", "Which value of keep_best is best.")
    patience: int | None = setting(
        None, "Stop after this many evaluations without a better keep_best; null: never."
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "auto: CUDA where there is one.")
    strategy: Literal["auto", "ddp", "fsdp"] = setting(
        "auto", "Under torchrun. auto is ddp; fsdp shards weights and optimiser over the GPUs."
    )
    shards: str | None = setting(
        None, "Folder of shards; null: of this pipeline's own output.", path="optional"
    )
    workers: int = setting(2, "Threads per process that read and decode.")

    def __post_init__(self) -> None:
        bounded(self, "epochs", "steps", "batch_size", "accumulate", "clip_norm", above=0)
        bounded(self, "log_every", "evaluate_every", "checkpoint_every", "patience", above=0)
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.ema_start_step < 0 or self.workers < 0:
            raise ValueError("ema_start_step and workers must not be negative")
        if self.patience is not None and self.keep_best is None:
            raise ValueError("patience needs keep_best: the metric that has to get better")


def bounded(
    settings: Any, *names: str, above: float | None = None, least: float | None = None
) -> None:
    """Raise ValueError unless each of these values, None aside, is finite and within the bound."""
    for name in names:
        value = getattr(settings, name)
        if value is None:
            continue
        small = (above is not None and value <= above) or (least is not None and value < least)
        if small or not math.isfinite(value):
            bound = f"greater than {above:g}" if above is not None else f"{least:g} or more"
            raise ValueError(f"{name} must be {bound}, got {value}")


class TrainerSettings(Protocol):
    """Any trainer's settings."""

    @property
    def train(self) -> TrainSettings: ...


def changed(before: Mapping[str, Any], settings: TrainerSettings) -> list[str]:
    """Return `key: before -> now` for what changed and is not free to change.

    before: as plain values. A setting that did not exist then counts as its default, so a new one
    leaves what older trainings learn alone.
    """
    new, default = _flat(to_tree(settings)), _flat(_defaults(settings))
    old = {**{name: default[name] for name in new if name in default}, **_flat(before)}
    free = {f"train.{name}" for name in MAY_CHANGE_ON_RESUME}
    return [
        f"{name}: {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted((old.keys() | new.keys()) - free)
        if old.get(name) != new.get(name)
    ]


def _defaults(settings: Any) -> dict[str, Any]:
    known = [f for f in fields(settings) if f.default is not MISSING or callable(f.default_factory)]
    return {
        f.name: to_tree(f.default_factory() if callable(f.default_factory) else f.default)
        for f in known
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
