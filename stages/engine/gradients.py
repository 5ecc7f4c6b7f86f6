"""Gradients of one update: summed over micro-batches, exchanged between ranks, clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from stages.engine.keeper import Trained

B = TypeVar("B")
Values = Mapping[str, Tensor]


def named(values: Tensor | Values) -> Values:
    """Return what a loss function gave as named values."""
    return {"loss": values} if isinstance(values, Tensor) else values


def accumulate(
    fabric: Fabric,
    trained: Sequence[Trained],
    others: Sequence[Trained],
    batches: Iterator[B] | Sequence[B],
    count: int,
    loss: Callable[[B], Tensor | Values],
    watch: Callable[[Tensor, B], None],
) -> dict[str, Tensor]:
    """Add the gradient of the mean loss over `count` micro-batches to `trained`; return the means.

    Gradients flow through `others`, not into them. watch: is shown each loss and its micro-batch.
    """
    drawn = isinstance(batches, Sequence)
    if isinstance(batches, Sequence) and len(batches) != count:
        raise ValueError(f"{len(batches)} micro-batches make no update of {count}")
    # DDP exchanges gradients with the first backward pass after a forward pass, whatever that was
    # of: if all forward passes come first, it must not, and we do.
    by_hand = drawn and isinstance(fabric.strategy, DDPStrategy)
    micro_batches = iter(batches)
    means: dict[str, Tensor] = {}
    with frozen(fabric, others):
        for number in range(count):
            batch = next(micro_batches)
            # Ranks exchange gradients with the last micro-batch only.
            with unsynced(fabric, trained, enabled=by_hand or number < count - 1):
                values = named(loss(batch))
                fabric.backward(values["loss"] / count)
            watch(values["loss"], batch)
            for name, value in values.items():
                share = value.detach() / count
                means[name] = means[name] + share if name in means else share
    if by_hand:
        _exchange([model.module for model in trained], fabric.world_size)
    return means


@contextmanager
def unsynced(fabric: Fabric, models: Iterable[Trained], *, enabled: bool = True) -> Iterator[None]:
    """Inside, backward passes through these models are not exchanged between ranks."""
    with ExitStack() as stack:
        for model in models:
            wrapped: Any = model.wrapped
            stack.enter_context(fabric.no_backward_sync(wrapped, enabled=enabled))
        yield


@contextmanager
def frozen(fabric: Fabric, models: Sequence[Trained]) -> Iterator[None]:
    """Inside, gradients flow through these models, not into them; DDP does not wait for any."""
    held = [p for model in models for p in model.module.parameters() if p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        with unsynced(fabric, models):
            yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


@torch.no_grad()
def _exchange(modules: Iterable[nn.Module], world_size: int) -> None:
    """Give all ranks the mean of their gradients; what is the same already stays so."""
    gradients = [p.grad for m in modules for p in m.parameters() if p.grad is not None]
    for work in [distributed.all_reduce(g, async_op=True) for g in gradients]:
        work.wait()
    if gradients:
        torch._foreach_div_(gradients, world_size)


def clipped(parameters: Sequence[Tensor], limit: float | None) -> Tensor:
    """Scale the gradient to a norm of at most `limit`, None: not; return its norm before that."""
    if limit is None:
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    else:
        norm = clip_grad_norm_(parameters, limit)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
