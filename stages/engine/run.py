"""A training while it runs: what a trainer asks for, in the order in which it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from avdata.config import Pipeline
from avdata.loader import Batch
from avdata.store import Store
from avdata.strict import to_tree
from stages.engine.batches import Batches, HeldOut, TensorBatch
from stages.engine.checkpoint import ModelCard, checkpoints, unpublish
from stages.engine.data import Data, Look
from stages.engine.display import Display
from stages.engine.early_stopping import Best
from stages.engine.ema import Ema
from stages.engine.errors import TrainingError
from stages.engine.fabric import eval_mode, sync_buffers
from stages.engine.gradients import Values, accumulate, clipped, named, unsynced
from stages.engine.keeper import Keeper, Stateful, Trained
from stages.engine.meters import Meters, mean_over_samples
from stages.engine.metrics_log import MetricsLog
from stages.engine.rng import generator_for, seed_all
from stages.engine.settings import TrainerSettings
from stages.engine.termination import Terminated, Termination

if TYPE_CHECKING:
    from rich.console import Console

S = TypeVar("S", bound=TrainerSettings)
B = TypeVar("B")
M = TypeVar("M")
N = TypeVar("N", bound=Sized)
Opt = TypeVar("Opt", bound=torch.optim.Optimizer)
St = TypeVar("St", bound=Stateful)


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
        termination: Termination,
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
        self._meters, self._termination = Meters(fabric), termination
        self._best = Best(settings.train)
        self._evaluated: dict[str, float] = {}
        self._evaluate_every = 0
        self._log: MetricsLog | None = None
        self._display: Display | None = None
        self._keeper.add("states", "best", self._best)
        seed_all(self.seed, name, "weights")  # on all ranks the same: weights are drawn from it

    # What is trained, and on what

    def batches(
        self,
        split: str = "train",
        *,
        shards: str | None = None,
        name: str | None = None,
        **look: Unpack[Look],
    ) -> Batches[Batch, TensorBatch]:
        """Return this rank's endless micro-batches of a split of the shards.

        shards: another folder of shards, or run, than `run.shards`. name: of this order of clips,
        for trainings that go through a split more than once.
        """
        made = self._data.batches(split, shards=shards, name=name, **look)
        return self.state(f"batches {name or split}", made)

    def held_out(
        self,
        split: str = "val",
        *,
        shards: str | None = None,
        batch_size: int | None = None,
        drop_last: bool = False,
        **look: Unpack[Look],
    ) -> HeldOut:
        """Return one pass over a split, the same each time, divided over the ranks.

        shards: as for `batches`. batch_size: per rank; None: as in training. drop_last: whole
        batches only, the same number on each rank, for losses that compare the samples of a batch.
        """
        return self._data.held_out(
            split, shards=shards, batch_size=batch_size, drop_last=drop_last, **look
        )

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

        Its weights become `name.safetensors`. A model with a card is a product of the training,
        which other stages may use. ema: average its weights, if the settings give a decay. Call it
        by its forward: other methods need `mark_forward_method` first, as in Lightning Fabric.
        """
        train = self.settings.train
        made: Any = torch.compile(module) if train.compile else module
        wrapped = self.fabric.setup_module(made)
        average = None
        if ema and train.ema_decay is not None:
            average = Ema(module, train.ema_decay, train.ema_start_step)
        self._keeper.add("models", name, Trained(module, wrapped, card, average))
        return wrapped

    def optimizer(self, name: str, optimizer: Opt) -> Opt:
        """Register an optimiser over parameters of registered models, and return it."""
        self._keeper.add("optimizers", name, optimizer)
        return optimizer

    def state(self, name: str, thing: St) -> St:
        """Register anything else that a resume needs, the same on all ranks; return it."""
        self._keeper.add("states", name, thing)
        return thing

    # The loop

    def steps(self, batches: Sized) -> Iterator[int]:
        """Yield the step numbers up to `total_steps`, from 1 or after the last checkpoint.

        batches: whose length, in updates, is an epoch. After each step: losses and gradients are
        checked, means logged, checkpoints written; ends early when patience does, and with
        Terminated, after a checkpoint, when SIGTERM comes. Models, optimisers and states must be
        registered before.
        """
        train = self.settings.train
        self.total_steps = train.steps or train.epochs * len(batches)
        self._evaluate_every = train.evaluate_every or len(batches)
        self.step = self._keeper.resume()
        if self.is_main:  # not before: a training that refuses these settings keeps its own
            text = yaml.safe_dump(to_tree(self.settings), sort_keys=False)
            Store(str(self.folder)).write_bytes("settings.yaml", text.encode())
        if self.step >= self.total_steps or self._best.exhausted:
            self.note(f"{self.name} was complete at step {self.step}")
            return self._finish()
        if self.is_main:
            unpublish(self.folder)
            self._log = MetricsLog(self.folder, self.step)
            self._display = Display(
                self.console, self.name, self.step, self.total_steps, train.batch_size
            )
        if self.step:
            self.note(f"{self.name} goes on after step {self.step}")
        self._termination.begin(self.fabric)
        while self.step < self.total_steps and not self._best.exhausted:
            self.step += 1
            yield self.step
            self._end_of_step()
        self._finish()
        self._termination.end()

    def draw(self, batches: Iterator[B], forward: Callable[[B], M]) -> list[M]:
        """Return what `forward` makes of each of this step's micro-batches.

        Losses of several `backward` share it, with the graph that leads to it: one forward pass
        of a generator, say, for its own loss and its discriminator's.
        """
        with unsynced(self.fabric, self._keeper.models.values()):
            return [forward(next(batches)) for _ in range(self.settings.train.accumulate)]

    def backward(
        self,
        models: nn.Module | Sequence[nn.Module],
        batches: Iterator[B] | Sequence[B],
        loss: Callable[[B], Tensor | Values],
    ) -> dict[str, Tensor]:
        """Add the gradient of the mean loss over this step's micro-batches to `models`.

        batches: micro-batches to take, or those that `draw` returned. loss: from a micro-batch to
        its mean loss, or to values among which is "loss". Other registered models are frozen
        meanwhile: gradients flow through them, not into them. Returns the means, detached.
        """
        wanted = (models,) if isinstance(models, nn.Module) else tuple(models)
        known = self._keeper.models.values()
        trained = [model for model in known if model.wrapped in wanted]
        if len(trained) < len(wanted):
            raise ValueError("backward takes models as run.model returned them")
        return accumulate(
            self.fabric,
            trained,
            [model for model in known if model.wrapped not in wanted],
            batches,
            self.settings.train.accumulate,
            loss,
            lambda value, batch: self._meters.watch(self.step, "the loss", value, batch),
        )

    def update(self, optimizer: torch.optim.Optimizer, lr: float | None = None) -> Tensor:
        """Clip, step, clear the gradient, average weights; return the gradient's norm (unclipped).

        lr: learning rate of this step for all groups; None: as it is.
        """
        name = self._keeper.name_of(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr
        norm = clipped(parameters, self.settings.train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        own = {id(p) for p in parameters}
        for model in self._keeper.models.values():
            if model.ema is not None and any(id(p) in own for p in model.module.parameters()):
                model.ema.update(self.step)
        self._meters.watch(self.step, f"the norm of the gradient of {name}", norm)
        return norm

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
        with self.evaluating():
            means = mean_over_samples(self.fabric, batches, lambda batch: named(loss(batch)))
        return {f"{prefix}{name}": value for name, value in means.items()}

    def log_evaluation(self, values: Mapping[str, float]) -> None:
        """Log an evaluation with this step; it decides about the best checkpoint and stopping.

        Give the same values on all ranks, as `evaluate` returns them. Raises SettingsError at the
        end of the step if `keep_best` is not among them.
        """
        self._evaluated.update(values)

    # Behind the loop

    def _end_of_step(self) -> None:
        train, step = self.settings.train, self.step
        evaluated, self._evaluated = self._evaluated, {}
        improved = bool(evaluated) and self._best.update(step, evaluated)
        done = step == self.total_steps or self._best.exhausted
        ended = not done and self._termination.agreed()
        save = done or improved or ended or step % train.checkpoint_every == 0
        values: dict[str, float] = {}
        if save or evaluated or step % train.log_every == 0:
            means, spoilt = self._meters.reduce()
            if spoilt is not None:
                raise TrainingError(self._advice(spoilt))
            values = {**means, **evaluated}
        if self._log is not None and self._display is not None:
            if values:
                speed = self._display.speed(step, self._keeper.waited_s)
                self._log.write(step, {**values, **speed})
            self._display.show(step, values)
        if save:
            sync_buffers(self.fabric, [m.module for m in self._keeper.models.values()])
            self._keeper.save(step, evaluated, keep=self._best.step)
        if ended:
            self._termination.end()
            raise Terminated(step)

    def _finish(self) -> None:
        if self._best.metric is not None and self._best.step is None:
            self.note(f"{self._best.metric} was never evaluated: the last checkpoint is the result")
        products = self._keeper.publish(self._best.step)
        if products:
            self.note(f"{self.name} is complete: {', '.join(map(str, products))}")

    def _advice(self, spoilt: str) -> str:
        found = checkpoints(self._keeper.checkpoints)
        good = f"the last good checkpoint is {found[max(found)]}" if found else "nothing was saved"
        return (
            f"{spoilt}; {good}; lower the learning rate, set "
            f"stages.{self.name}.train.clip_norm, or look at these samples"
        )

    def note(self, text: str) -> None:
        """Print a line, on the first rank alone."""
        if self.is_main:
            self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Let go of log and display; launch calls it."""
        for thing in (self._log, self._display):
            if thing is not None:
                thing.close()
