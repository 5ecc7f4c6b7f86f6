"""Inception-v3 as FID uses it: the TensorFlow network of 2015, with a class head of any size.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016. It differs
from the later ports in its average pools, which leave the padding out, and in its last block,
which takes the maximum. Layers are named as in the public `pt_inception` checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.errors import WeightsError

FEATURE_DIM = 2048
IMAGE_PX = 299
IMAGENET_CLASSES = 1008  # of the published head: 1000 and 8 unused
HEAD = "fc."


@dataclass(frozen=True, slots=True)
class Conv:
    """One convolution of a block: stride 1 keeps the size, stride 2 takes no padding."""

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int = 1


Branch = Sequence[Conv | tuple[Conv, Conv]]  # a chain; a pair stands side by side at its end


def _chain(name: str, *steps: tuple[int, int, int], stride: int = 1) -> list[Conv]:
    """Return convolutions name_1, name_2, ... of (channels, height, width); the last is strided."""
    last = len(steps)
    return [
        Conv(f"{name}_{i}", channels, (height, width), stride if i == last else 1)
        for i, (channels, height, width) in enumerate(steps, 1)
    ]


def _one(name: str, channels: int) -> Branch:
    return [Conv(name, channels, (1, 1))]


def block_a(pool_channels: int) -> list[Branch]:
    """35 × 35: 1×1, 5×5, double 3×3, pooled."""
    return [
        _one("branch1x1", 64),
        _chain("branch5x5", (48, 1, 1), (64, 5, 5)),
        _chain("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        _one("branch_pool", pool_channels),
    ]


def block_b() -> list[Branch]:
    """35 × 35 → 17 × 17."""
    return [
        [Conv("branch3x3", 384, (3, 3), 2)],
        _chain("branch3x3dbl", (64, 1, 1), (96, 3, 3), (96, 3, 3), stride=2),
    ]


def block_c(c: int) -> list[Branch]:
    """17 × 17: 1×1, 7×7 and double 7×7 taken apart into 1×7 and 7×1, pooled."""
    return [
        _one("branch1x1", 192),
        _chain("branch7x7", (c, 1, 1), (c, 1, 7), (192, 7, 1)),
        _chain("branch7x7dbl", (c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
        _one("branch_pool", 192),
    ]


def block_d() -> list[Branch]:
    """17 × 17 → 8 × 8."""
    return [
        _chain("branch3x3", (192, 1, 1), (320, 3, 3), stride=2),
        _chain("branch7x7x3", (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3), stride=2),
    ]


def block_e() -> list[Branch]:
    """8 × 8: 1×1, and 3×3 that ends in 1×3 beside 3×1, pooled."""

    def fork(name: str) -> tuple[Conv, Conv]:
        return Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1))

    return [
        _one("branch1x1", 320),
        [*_chain("branch3x3", (384, 1, 1)), fork("branch3x3_2")],
        [*_chain("branch3x3dbl", (448, 1, 1), (384, 3, 3)), fork("branch3x3dbl_3")],
        _one("branch_pool", 192),
    ]


class ConvNorm(nn.Module):
    """Convolution without bias → batch norm → ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, concatenated; pooling keeps the size, or halves it without weights."""

    def __init__(self, in_channels: int, branches: Sequence[Branch], *, pool: str) -> None:
        super().__init__()
        self.branches: list[list[list[str]]] = []  # per branch and step, the names side by side
        self.pool = pool
        self.out_channels = in_channels if pool == "halve" else 0
        for branch in branches:
            width, steps = in_channels, []
            for step in branch:
                fork = step if isinstance(step, tuple) else (step,)
                for conv in fork:
                    height, breadth = conv.kernel
                    padding = (height // 2, breadth // 2) if conv.stride == 1 else 0
                    module = ConvNorm(
                        width, conv.channels, conv.kernel, stride=conv.stride, padding=padding
                    )
                    self.add_module(conv.name, module)
                width = sum(conv.channels for conv in fork)
                steps.append([conv.name for conv in fork])
            self.out_channels += width
            self.branches.append(steps)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for steps in self.branches:
            y = x
            if steps[0] == ["branch_pool"]:
                y = self._pooled(x)
            for names in steps:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            outputs.append(y)
        if self.pool == "halve":
            outputs.append(self._pooled(x))
        return torch.cat(outputs, dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "mean":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        if self.pool == "max":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        return F.max_pool2d(x, 3, stride=2)


class InceptionV3(nn.Module):
    """Pictures [B, 3, 299, 299] in [−1, 1) → class scores [B, n_classes].

    `features` gives what FID measures, [B, 2048]. 21 785 568 parameters without the head.
    """

    def __init__(self, *, n_classes: int = IMAGENET_CLASSES, dropout: float = 0.0) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, 3)
        channels = 192
        for name, branches, pool in (
            ("Mixed_5b", block_a(32), "mean"),
            ("Mixed_5c", block_a(64), "mean"),
            ("Mixed_5d", block_a(64), "mean"),
            ("Mixed_6a", block_b(), "halve"),
            ("Mixed_6b", block_c(128), "mean"),
            ("Mixed_6c", block_c(160), "mean"),
            ("Mixed_6d", block_c(160), "mean"),
            ("Mixed_6e", block_c(192), "mean"),
            ("Mixed_7a", block_d(), "halve"),
            ("Mixed_7b", block_e(), "mean"),
            ("Mixed_7c", block_e(), "max"),
        ):
            block = Mixed(channels, branches, pool=pool)
            self.add_module(name, block)
            channels = block.out_channels
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(FEATURE_DIM, n_classes)

    def features(self, pictures: Tensor) -> Tensor:
        """Return the pooled features [B, 2048] of pictures [B, 3, 299, 299] in [−1, 1)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(pictures)))
        x = F.max_pool2d(x, 3, stride=2)  # [B, 64, 73, 73]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)  # [B, 192, 35, 35]
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        pooled: Tensor = x.mean(dim=(2, 3))
        return pooled

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.features(pictures)))
        return logits


def load_trunk(model: InceptionV3, state: Mapping[str, Tensor]) -> bool:
    """Load published weights of one of two layouts; return whether the class head came along.

    - `pt_inception`, named as here: the head is taken if it has as many classes as the model;
    - the graph's own order, as TorchScript copies of the TensorFlow file keep it: `weight`, `beta`,
      `mean` and `var` per convolution, without head.

    Raises WeightsError for anything else, before a weight is changed.
    """
    if any(name.endswith(".beta") for name in state):
        state = _from_graph_order(model, state)
    wanted = model.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    found = {name: value for name, value in state.items() if name in wanted}
    head = {name for name in wanted if name.startswith(HEAD)}
    has_head = all(name in found and found[name].shape == wanted[name].shape for name in head)
    kept = {name: value for name, value in found.items() if has_head or name not in head}
    for name in sorted(set(wanted) - head - counters):
        if name not in kept or kept[name].shape != wanted[name].shape:
            seen = list(kept[name].shape) if name in kept else "nothing"
            raise WeightsError(
                f"these are no weights of FID's Inception-v3: {name} should be "
                f"{list(wanted[name].shape)}, found {seen}"
            )
    model.load_state_dict(kept, strict=False)
    return has_head


def _from_graph_order(model: InceptionV3, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    leaves = {
        "weight": "conv.weight",
        "beta": "bn.bias",
        "mean": "bn.running_mean",
        "var": "bn.running_var",
    }
    theirs: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if leaf in leaves:
            theirs.setdefault(layer, {})[leaves[leaf]] = value
    ours = [name for name, module in model.named_modules() if isinstance(module, ConvNorm)]
    if len(theirs) != len(ours):
        raise WeightsError(f"Inception-v3 has {len(ours)} convolutions, the file {len(theirs)}")
    renamed: dict[str, Tensor] = {}
    for name, values in zip(ours, theirs.values(), strict=True):
        renamed |= {f"{name}.{leaf}": value for leaf, value in values.items()}
        if "bn.bias" in values:  # that graph's norm has no gain
            renamed[f"{name}.bn.weight"] = torch.ones_like(values["bn.bias"])
    return renamed
