"""A training while it runs: what a trainer asks for, in the order in which it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from avdata.config import Pipeline
from avdata.loader import Batch
from avdata.store import Store
from avdata.strict import to_tree
from stages.engine.batches import Batches, HeldOut, TensorBatch
from stages.engine.checkpoint import PRODUCT_NAME, ModelCard, checkpoints
from stages.engine.data import Data, Look
from stages.engine.display import Display
from stages.engine.early_stopping import Best
from stages.engine.ema import Ema
from stages.engine.errors import TrainingError
from stages.engine.fabric import eval_mode, frozen, sync_buffers, unsynced
from stages.engine.keeper import Keeper, Stateful, Trained
from stages.engine.meters import Meters, gather
from stages.engine.metrics_log import MetricsLog
from stages.engine.rng import generator_for, seed_all
from stages.engine.settings import TrainerSettings

if TYPE_CHECKING:
    from rich.console import Console

S = TypeVar("S", bound=TrainerSettings)
B = TypeVar("B")
Opt = TypeVar("Opt", bound=torch.optim.Optimizer)
St = TypeVar("St", bound=Stateful)
Values = Mapping[str, Tensor]


class Sized(Protocol):
    """A batch: it knows how many samples it holds."""

    def __len__(self) -> int: ...


N = TypeVar("N", bound=Sized)


class Run(Generic[S]):
    """One training in one process; README.md beside this file shows how a trainer uses it.

    generator: on the device, another stream on each rank, saved with checkpoints.
    """

    def __init__(
        self,
        name: str,
        settings: S,
        pipeline: Pipeline,
        fabric: Fabric,
        folder: Path,
        console: Console,
    ) -> None:
        self.name, self.settings, self.pipeline = name, settings, pipeline
        self.fabric, self.folder, self.console = fabric, folder, console
        self.device, self.is_main = fabric.device, fabric.is_global_zero
        self.rank, self.world_size = fabric.global_rank, fabric.world_size
        self.seed = pipeline.seed
        self.shards = settings.train.shards or pipeline.output
        self.generator = generator_for(self.seed, name, f"rank {self.rank}", self.device)
        self.step = self.total_steps = 0
        self._data = Data(
            self.shards, settings.train, self.seed, self.rank, self.world_size, self.device
        )
        self._keeper = Keeper(name, folder, self.seed, settings, fabric, self.generator)
        self._meters = Meters(fabric)
        self._best = Best(settings.train)
        self._evaluated: dict[str, float] = {}
        self._evaluate_every = 0
        self._log: MetricsLog | None = None
        self._display: Display | None = None
        seed_all(self.seed, name, "weights")  # on all ranks the same: weights are drawn from it

    # What is trained, and on what

    def batches(self, split: str = "train", **look: Unpack[Look]) -> Batches[Batch, TensorBatch]:
        """Return this rank's endless micro-batches of a split of the shards."""
        return self.state(f"batches {split}", self._data.batches(split, **look))

    def held_out(
        self,
        split: str = "val",
        *,
        batch_size: int | None = None,
        drop_last: bool = False,
        **look: Unpack[Look],
    ) -> HeldOut:
        """Return one pass over a split, the same each time, divided over the ranks.

        batch_size: per rank; None: as in training. drop_last: whole batches only, the same number
        on each rank, for losses that compare the samples of a batch.
        """
        return self._data.held_out(split, batch_size=batch_size, drop_last=drop_last, **look)

    def rows(
        self, n: int, name: str = "rows", *, of: str = ""
    ) -> Batches[NDArray[np.int64], Tensor]:
        """Return endless micro-batches of row numbers below `n`: int64 [B] on the device.

        of: digest of what they are the rows of: a training goes on with the same alone.
        """
        return self.state(name, self._data.rows(n, name, of))

    def model(
        self, name: str, module: nn.Module, *, card: ModelCard | None = None, ema: bool = False
    ) -> Any:
        """Return the module on the device, compiled and distributed as the settings say.

        Its weights become `name.safetensors`. The first model with a card is the product of the
        training. ema: average its weights, if the settings give a decay. Call it by its forward:
        other methods need `mark_forward_method` first, as in Lightning Fabric.
        """
        train = self.settings.train
        made: Any = torch.compile(module) if train.compile else module
        wrapped = self.fabric.setup_module(made)
        average = None
        if ema and train.ema_decay is not None:
            average = Ema(module, train.ema_decay, train.ema_start_step)
        self._keeper.models[name] = Trained(module, wrapped, card, average)
        return wrapped

    def optimizer(self, name: str, optimizer: Opt) -> Opt:
        """Register an optimiser over parameters of registered models, and return it."""
        self._keeper.optimizers[name] = optimizer
        return optimizer

    def state(self, name: str, thing: St) -> St:
        """Register anything else that a resume needs, the same on all ranks; return it."""
        self._keeper.states[name] = thing
        return thing

    # The loop

    def steps(self, batches: Batches[Any, Any]) -> Iterator[int]:
        """Yield the step numbers up to `total_steps`, from 1 or after the last checkpoint.

        After each step: losses are checked, means logged, checkpoints written; ends early when
        patience does. Models, optimisers and states must be registered before.
        """
        train = self.settings.train
        self.total_steps = train.steps or train.epochs * len(batches)
        self._evaluate_every = train.evaluate_every or len(batches)
        self._keeper.states["best"] = self._best
        self.step = self._keeper.resume()
        if self.is_main:  # not before: a training that refuses these settings keeps its own
            text = yaml.safe_dump(to_tree(self.settings), sort_keys=False)
            Store(str(self.folder)).write_bytes("settings.yaml", text.encode())
        if self.step >= self.total_steps or self._best.exhausted:
            self._note(f"{self.name} was complete at step {self.step}")
            return self._finish()
        if self.is_main:
            (self.folder / PRODUCT_NAME).unlink(missing_ok=True)
            self._log = MetricsLog(self.folder, self.step)
            self._display = Display(
                self.console, self.name, self.step, self.total_steps, train.batch_size
            )
        if self.step:
            self._note(f"{self.name} goes on after step {self.step}")
        while self.step < self.total_steps and not self._best.exhausted:
            self.step += 1
            yield self.step
            self._end_of_step(batches)
        self._finish()

    def backward(
        self,
        models: nn.Module | Sequence[nn.Module],
        batches: Iterator[B],
        loss: Callable[[B], Tensor | Values],
    ) -> dict[str, Tensor]:
        """Add the gradient of the mean loss over this step's micro-batches to `models`.

        loss: from a micro-batch to its mean loss, or to values among which is "loss". Other
        registered models are frozen meanwhile: gradients flow through them, not into them.
        Returns the means, detached.
        """
        trained = (models,) if isinstance(models, nn.Module) else tuple(models)
        others = [m for m in self._keeper.models.values() if m.wrapped not in trained]
        accumulate = self.settings.train.accumulate
        means: dict[str, Tensor] = {}
        with frozen(self.fabric, [m.module for m in others], [m.wrapped for m in others]):
            for number in range(accumulate):
                batch = next(batches)
                # Ranks exchange gradients with the last micro-batch only.
                with unsynced(self.fabric, trained, enabled=number < accumulate - 1):
                    values = named(loss(batch))
                    self.fabric.backward(values["loss"] / accumulate)
                self._meters.watch(self.step, batch, values["loss"])
                for name, value in values.items():
                    share = value.detach() / accumulate
                    means[name] = means[name] + share if name in means else share
        return means

    def update(self, optimizer: torch.optim.Optimizer, lr: float | None = None) -> Tensor:
        """Clip, step, clear the gradient, average weights; return the gradient's norm (unclipped).

        lr: learning rate of this step for all groups; None: as it is.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr
        limit = self.settings.train.clip_norm
        if limit is None:
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = clip_grad_norm_(parameters, limit)
        optimizer.step()
        optimizer.zero_grad()
        own = {id(p) for p in parameters}
        for model in self._keeper.models.values():
            if model.ema is not None and any(id(p) in own for p in model.module.parameters()):
                model.ema.update(self.step)
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def log(self, values: Mapping[str, Tensor | float]) -> None:
        """Take in values of this step: logged as means over steps and ranks, every `log_every`."""
        self._meters.add(values)

    # Evaluation

    @property
    def evaluation_due(self) -> bool:
        """Whether this step is to be followed by an evaluation; the last one always is."""
        return self.step % self._evaluate_every == 0 or self.step == self.total_steps

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside: averaged weights where there are, eval mode, no gradients; as before after it."""
        models = self._keeper.models.values()
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            for model in models:
                if model.ema is not None:
                    stack.enter_context(model.ema.applied())
                stack.enter_context(eval_mode(model.module))
            # The first rank's statistics, live or averaged: they are what a checkpoint keeps.
            sync_buffers(self.fabric, [model.module for model in models])
            yield

    def evaluate(
        self, batches: Iterable[N], loss: Callable[[N], Tensor | Values], prefix: str = "val_"
    ) -> dict[str, float]:
        """Return the means of `loss` over all samples of all ranks, names prefixed."""
        sums: dict[str, float] = {}
        count = 0
        with self.evaluating():
            for batch in batches:
                for name, value in named(loss(batch)).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(batch)
                count += len(batch)
        parts = gather(self.fabric, (sums, count))
        total = sum(n for _, n in parts)
        names = sorted({name for part, _ in parts for name in part})
        return {f"{prefix}{n}": sum(p.get(n, 0.0) for p, _ in parts) / total for n in names}

    def log_evaluation(self, values: Mapping[str, float]) -> None:
        """Log an evaluation with this step; it decides about the best checkpoint and stopping.

        Give the same values on all ranks, as `evaluate` returns them. Raises SettingsError at the
        end of the step if `keep_best` is not among them.
        """
        self._evaluated.update(values)

    # Behind the loop

    def _end_of_step(self, batches: Batches[Any, Any]) -> None:
        train, step = self.settings.train, self.step
        evaluated, self._evaluated = self._evaluated, {}
        improved = bool(evaluated) and self._best.update(step, evaluated)
        done = step == self.total_steps or self._best.exhausted
        save = done or improved or step % train.checkpoint_every == 0
        values: dict[str, float] = {}
        if save or evaluated or step % train.log_every == 0:
            means, spoilt = self._meters.reduce()
            if spoilt is not None:
                raise TrainingError(self._advice(spoilt))
            values = {**means, **evaluated}
        if self._log is not None and self._display is not None:
            if values:
                speed = self._display.speed(step, batches.waited_s)
                self._log.write(step, {**values, **speed})
            self._display.show(step, values)
        if save:
            sync_buffers(self.fabric, [m.module for m in self._keeper.models.values()])
            self._keeper.save(step, evaluated, keep=self._best.step)

    def _finish(self) -> None:
        if self._best.metric is not None and self._best.step is None:
            self._note(
                f"{self._best.metric} was never evaluated: the last checkpoint is the result"
            )
        product = self._keeper.publish(self._best.step)
        if product is not None:
            self._note(f"{self.name} is complete: {product}")

    def _advice(self, spoilt: str) -> str:
        found = checkpoints(self._keeper.checkpoints)
        good = f"the last good checkpoint is {found[max(found)]}" if found else "nothing was saved"
        return (
            f"the loss is not finite at {spoilt}; {good}; lower the learning rate, set "
            f"stages.{self.name}.train.clip_norm, or look at these samples"
        )

    def _note(self, text: str) -> None:
        if self.is_main:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Let go of log and display; launch calls it."""
        for thing in (self._log, self._display):
            if thing is not None:
                thing.close()


def named(values: Tensor | Values) -> Values:
    """Return what a loss function gave as named values."""
    return {"loss": values} if isinstance(values, Tensor) else values
