"""Lightning Fabric as all trainers use it: devices, precision, DDP and FSDP under torchrun."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import distributed, nn

from avdata.errors import SettingsError
from stages.engine.settings import TrainSettings

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Net = TypeVar("Net", bound=nn.Module)


class Autocast(MixedPrecision):
    """bf16 autocast that leaves inputs as they are: sound in bfloat16 would have 8 bits."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(train: TrainSettings) -> Fabric:
    """Return Fabric for this process: alone, or one of those that torchrun started.

    Raises SettingsError if CUDA is asked for and not there, or the batch cannot be divided.
    """
    cuda = torch.cuda.is_available()
    if train.device == "cuda" and not cuda:
        raise SettingsError("train.device is cuda, but torch sees no CUDA device; use auto or cpu")
    device = "cuda" if cuda and train.device != "cpu" else "cpu"
    torchrun = TorchElasticEnvironment.detect()
    per_node = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun else 1
    world_size = int(os.environ["WORLD_SIZE"]) if torchrun else 1
    if device == "cuda" and per_node > torch.cuda.device_count():
        raise SettingsError(
            f"torchrun started {per_node} processes, but there are {torch.cuda.device_count()} GPUs"
        )
    if train.batch_size % (world_size * train.accumulate):
        raise SettingsError(
            f"batch_size {train.batch_size} must divide by {world_size} processes times "
            f"accumulate {train.accumulate}"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    set_float32_precision(exact=train.precision == "fp32")
    precision = Autocast("bf16-mixed", device) if train.precision == "bf16" else Precision()
    environment = TorchElasticEnvironment() if torchrun else LightningEnvironment()
    strategy: Any = "auto"
    if train.strategy == "fsdp":
        strategy = ModelParallelStrategy(
            shard, data_parallel_size=world_size, tensor_parallel_size=1
        )
    elif torchrun:
        # Buffers are made equal when it matters (sync_buffers), not at every forward pass.
        strategy = DDPStrategy(forward_sync_buffers=False, gradient_as_bucket_view=True)
    fabric = Fabric(
        accelerator=device,
        devices=per_node,
        num_nodes=max(1, world_size // per_node),
        strategy=strategy,
        plugins=[precision, environment],
    )
    fabric.launch()
    return fabric


def set_float32_precision(*, exact: bool) -> None:
    """Have CUDA compute float32 products and convolutions as float32, or faster as TF32.

    Convolutions have a switch of their own, which torch leaves at TF32 (10 bits of mantissa).
    """
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact


def shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard a model for FSDP in place: each child by itself, what is left with the root."""
    from torch.distributed.fsdp import fully_shard

    for block in module.children():
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    return module


def prepared(fabric: Fabric, network: Net, *, sync_batch_norm: bool = False) -> Net:
    """Return the network laid out as convolutions are fastest; sync_batch_norm: across GPUs."""
    channels_last(network)
    if sync_batch_norm and fabric.device.type == "cuda" and fabric.world_size > 1:
        convert: Callable[[Net], Net] = nn.SyncBatchNorm.convert_sync_batchnorm
        network = convert(network)
    return network


@torch.no_grad()
def channels_last(network: nn.Module) -> None:
    """Lay out all weights of four dimensions as tensor cores want them, which CPUs like too.

    Not those of nn.Conv2d alone: StyleGAN2 scales its weights before it convolves.
    """
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Inside, the module is in eval mode; after it, each part is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@torch.no_grad()
def sync_buffers(fabric: Fabric, modules: Iterable[nn.Module]) -> None:
    """Give all ranks the buffers (batch norm's statistics) of the first."""
    if fabric.world_size > 1:
        for module in modules:
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)


def leave(fabric: Fabric) -> None:
    """End the process group. gloo aborts the process now and then when it is torn down while
    another rank still talks to it, or when its last reference goes first."""
    if not distributed.is_initialized():
        return
    group = distributed.group.WORLD
    fabric.barrier()
    time.sleep(0.2)
    distributed.destroy_process_group()
    del group
