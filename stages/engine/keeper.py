"""Everything a training consists of, saved and brought back; sharded models are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from avdata.errors import ShardError
from avdata.strict import to_tree
from stages.engine import checkpoint
from stages.engine.batches import Batches
from stages.engine.checkpoint import FILE_NAME, ModelCard
from stages.engine.ema import Ema
from stages.engine.errors import CheckpointError, TrainingError
from stages.engine.metadata import FORMAT_VERSION
from stages.engine.meters import gather
from stages.engine.rng import rng_state, seed_all, set_rng_state
from stages.engine.settings import TrainerSettings, changed

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Stateful(Protocol):
    """Anything with a state of plain values and tensors, the same on all ranks."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Trained:
    """A model in training."""

    module: nn.Module  # as the trainer made it
    wrapped: nn.Module  # as the trainer calls it
    card: ModelCard | None
    ema: Ema | None


@dataclass
class Keeper:
    """Saves and resumes one training."""

    name: str
    folder: Path
    seed: int
    settings: TrainerSettings
    fabric: Fabric
    generator: torch.Generator
    models: dict[str, Trained] = field(default_factory=dict)
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    states: dict[str, Stateful] = field(default_factory=dict)
    begun: bool = False  # what is registered later would be in no checkpoint

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def sharded(self) -> bool:
        return self.settings.train.strategy == "fsdp"

    def add(self, kind: str, name: str, thing: Any) -> None:
        """Register one of "models", "optimizers" or "states".

        Raises ValueError for a name that is taken or names no file, and for one that comes too late
        to be resumed.
        """
        table: dict[str, Any] = getattr(self, kind)
        if name in table:
            raise ValueError(f"two {kind} of {self.name} are called {name!r}; rename one")
        if kind == "models" and not FILE_NAME.fullmatch(name):
            raise ValueError(f"a model is a file: letters, digits, _ and - alone, not {name!r}")
        if self.begun:
            raise ValueError(f"{name!r} comes after the first step: register it before run.steps")
        table[name] = thing

    def name_of(self, optimizer: torch.optim.Optimizer) -> str:
        """Return the name of an optimiser; raises ValueError for one that no checkpoint keeps."""
        for name, known in self.optimizers.items():
            if known is optimizer:
                return name
        raise ValueError(f"{self.name} updates an optimiser that run.optimizer was not given")

    @property
    def waited_s(self) -> float:
        """Time spent waiting for data of any kind since the start."""
        return sum(s.waited_s for s in self.states.values() if isinstance(s, Batches))

    @property
    def products(self) -> list[str]:
        """The models that other stages may use: those with a card."""
        return [name for name, model in self.models.items() if model.card is not None]

    def save(self, step: int, metrics: Mapping[str, float], keep: int | None) -> None:
        """Write the checkpoint of `step`; of the earlier ones only that of step `keep` stays.

        Raises TrainingError, and writes nothing, if a weight is not finite.
        """
        self._require_finite(step)
        facts = {"stage": self.name, "step": step, "metrics": dict(metrics)}
        files: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]] = {}
        for name, model in self.models.items():
            card = model.card or ModelCard(name=name)
            files[name] = self._weights(model.module), card.metadata(**facts, averaged=False)
            if model.ema is not None:
                with model.ema.applied():
                    averaged = {k: v.clone() for k, v in self._weights(model.module).items()}
                files[f"{name}.ema"] = averaged, card.metadata(**facts, averaged=True)
        state = {
            "version": FORMAT_VERSION,
            "step": step,
            "settings": to_tree(self.settings),
            "sharded": self.sharded,
            "optimizers": {name: self._moments(o) for name, o in self.optimizers.items()},
            "states": {name: thing.state_dict() for name, thing in self.states.items()},
            "rng": gather(self.fabric, rng_state(self.generator)),  # of every rank
        }
        if self.fabric.is_global_zero:
            last = checkpoint.write_checkpoint(self.checkpoints, step, files, state)
            for number, path in checkpoint.checkpoints(self.checkpoints).items():
                if path != last and number != keep:
                    checkpoint.remove_checkpoint(path)
        self.fabric.barrier()

    def resume(self) -> int:
        """Bring back the last checkpoint, and return its step; 0 and fresh randomness without one.

        Raises CheckpointError if it is damaged or belongs to another training.
        """
        if len(self.products) > 1 and "model" in self.products:
            raise ValueError("model.safetensors is what a single product is called; rename `model`")
        self.begun = True
        rank = self.fabric.global_rank
        found = checkpoint.checkpoints(self.checkpoints)
        if not found:
            seed_all(self.seed, self.name, f"rank {rank}")
            return 0
        step, path = max(found.items())
        state = checkpoint.read_state(path)
        self._require_same(state, path)
        for name, model in self.models.items():
            if model.ema is not None:
                self._load(model.module, path / f"{name}.ema.safetensors")
                model.ema.take()
            self._load(model.module, path / f"{name}.safetensors")
        try:
            for name, optimizer in self.optimizers.items():
                self._load_moments(optimizer, state["optimizers"][name])
            for name, thing in self.states.items():
                thing.load_state_dict(state["states"][name])
            if rank < len(state["rng"]):
                set_rng_state(state["rng"][rank], self.generator)
            else:
                seed_all(self.seed, self.name, f"rank {rank} from step {step}")
        except ShardError as error:
            raise CheckpointError(
                f"{path} was made with other clips ({error}); give it the same shards, start "
                "anew with --fresh, or give another output folder"
            ) from None
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} does not fit this training ({type(error).__name__}: {error}); start anew "
                "with --fresh, or give another output folder"
            ) from error
        return step

    def publish(self, best: int | None) -> list[Path]:
        """Copy the products, of step `best` or else the last, to where other stages look."""
        found = checkpoint.checkpoints(self.checkpoints)
        source = found[max(found) if best is None else best]
        files = {
            name: source / (f"{name}.safetensors" if ema is None else f"{name}.ema.safetensors")
            for name, ema in ((name, self.models[name].ema) for name in self.products)
        }
        published: list[Path] = []
        if self.fabric.is_global_zero and files:
            published = checkpoint.publish(self.folder, files)
        self.fabric.barrier()
        return published

    def _require_finite(self, step: int) -> None:
        """Look at every weight; all ranks get the same answer, each looks at its own part."""
        for name, model in self.models.items():
            whole = [p.detach() for p in model.module.parameters()]
            own = [p.to_local() if isinstance(p, DTensor) else p for p in whole]
            if not all(gather(self.fabric, all(p.isfinite().all() for p in own))):
                raise TrainingError(
                    f"weights of {name} are not finite after step {step}, which is not saved; "
                    f"lower the learning rate, or set stages.{self.name}.train.clip_norm"
                )

    def _require_same(self, state: Mapping[str, Any], path: Path) -> None:
        differences = changed(state["settings"], self.settings)
        if state["sharded"] != self.sharded:
            differences.append(f"fsdp: {state['sharded']} -> {self.sharded}")
        for kind, now in (("optimizers", self.optimizers), ("states", self.states)):
            if state[kind].keys() != now.keys():
                differences.append(f"{kind}: {sorted(state[kind])} -> {sorted(now)}")
        if differences:
            raise CheckpointError(
                f"{path} was made with other settings ({'; '.join(differences)}); set them back, "
                "start anew with --fresh, or give another output folder"
            )

    def _weights(self, module: nn.Module) -> dict[str, Any]:
        if self.sharded:
            return get_model_state_dict(module, options=FULL)
        return module.state_dict()

    def _load(self, module: nn.Module, path: Path) -> None:
        weights: dict[str, Any] = checkpoint.load_weights(path)[1]
        try:
            if self.sharded:
                set_model_state_dict(module, weights, options=FULL)
            else:
                module.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} does not fit this model; start anew with --fresh ({error})"
            ) from None

    def _everything(self) -> nn.Module:
        return nn.ModuleDict({name: model.module for name, model in self.models.items()})

    def _moments(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        if self.sharded:
            return dict(get_optimizer_state_dict(self._everything(), optimizer, options=FULL))
        return optimizer.state_dict()

    def _load_moments(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        if self.sharded:
            set_optimizer_state_dict(self._everything(), optimizer, state, options=FULL)
        else:
            optimizer.load_state_dict(state)
