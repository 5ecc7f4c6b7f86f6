"""Swin Transformer: attention in windows that are shifted in every second block.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021.
A trunk without a head. Names of parameters are timm's; `read_swin` also takes the layouts of
transformers and of the paper's own code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.errors import WeightsError
from stages.nn.published import differences, read_tensors

PATCH = 4
MLP_RATIO = 4


class Swin(nn.Module):
    """Pictures [B, in_channels, H, W] → [B, 8 · width], the mean over all places.

    The default is Swin-T, of 27 519 354 parameters with three channels and 27 516 282 with one.
    H and W are multiples of 32 · window, 224 for 7.
    drop_path: chance with which the last block is skipped for a sample in training; it rises to
    that linearly from 0 in the first.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        last = max(1, sum(depths) - 1)
        chances = (drop_path * n / last for n in range(sum(depths)))
        self.patch_embed = PatchEmbedding(in_channels, width)
        self.layers = nn.ModuleList(
            Stage(width * 2**n, [next(chances) for _ in range(depth)], head, window, first=n == 0)
            for n, (depth, head) in enumerate(zip(depths, heads, strict=True))
        )
        self.out_channels = width * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(self.out_channels)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)  # [B, H / 4, W / 4, width]
        for layer in self.layers:
            x = layer(x)
        pooled: Tensor = self.norm(x).mean(dim=(1, 2))
        return pooled


class PatchEmbedding(nn.Module):
    """[B, C, H, W] → [B, H / 4, W / 4, width]: each 4×4 patch by itself, normalised."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return embedded


class Stage(nn.Module):
    """Blocks of one resolution: [B, H, W, C / 2] → [B, H / 2, W / 2, C], but for the first."""

    def __init__(
        self, width: int, drop_paths: Sequence[float], heads: int, window: int, *, first: bool
    ) -> None:
        super().__init__()
        self.downsample = nn.Identity() if first else PatchMerging(width // 2)
        self.blocks = nn.ModuleList(
            Block(width, heads, window, shifted=n % 2 == 1, drop_path=chance)
            for n, chance in enumerate(drop_paths)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class PatchMerging(nn.Module):
    """Four neighbours become one: [B, H, W, C] → [B, H / 2, W / 2, 2 C]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        four = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(four, dim=-1)))
        return merged


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each skipped at random in training."""

    def __init__(
        self, width: int, heads: int, window: int, *, shifted: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shifted, self.drop_path = window, shifted, drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._kept(self._attended(self.norm1(x)))
        x = x + self._kept(self.mlp(self.norm2(x)))
        return x

    def _attended(self, x: Tensor) -> Tensor:
        """Return attention within windows of [B, H, W, C], which a shifted block moves by half."""
        _, height, width, channels = x.shape
        side = self.window
        if height % side or width % side:
            raise ValueError(
                f"windows of {side} do not tile {height} x {width} places: give Swin pictures "
                f"whose sides are multiples of {32 * side} px"
            )
        shift = side // 2 if self.shifted and side < min(height, width) else 0
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        rows, columns = height // side, width // side
        windows = x.reshape(-1, rows, side, columns, side, channels).transpose(2, 3)
        windows = windows.reshape(-1, side * side, channels)
        mask = _foreign(height, width, side, shift).to(x.device) if shift else None
        y = self.attn(windows, mask)
        y = y.reshape(-1, rows, columns, side, side, channels).transpose(2, 3)
        y = y.reshape(-1, height, width, channels)
        back: Tensor = y.roll((shift, shift), dims=(1, 2)) if shift else y
        return back

    def _kept(self, y: Tensor) -> Tensor:
        """Drop whole samples, and scale the others up by as much."""
        if not self.training or self.drop_path == 0:
            return y
        kept = torch.rand(len(y), 1, 1, 1, device=y.device, dtype=torch.float32) >= self.drop_path
        return y * kept / (1 - self.drop_path)


class WindowAttention(nn.Module):
    """softmax(q kᵀ / √d + B) v in each window, B learned of each relative position, [h, n, n]."""

    relative_position_index: Tensor  # [window⁴]

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        # A constant: no part of checkpoints.
        index = _relative_positions(window)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor, foreign: Tensor | None) -> Tensor:
        """Return [B · windows, n, C]; foreign [windows, n, n]: pairs that do not see each other."""
        count, n, channels = x.shape
        q, k, v = self.qkv(x).reshape(count, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.reshape(n, n, self.heads).permute(2, 0, 1)[None]  # [1, h, n, n]
        if foreign is not None:
            apart = bias.masked_fill(foreign[:, None], -100.0)  # [windows, h, n, n]
            bias = apart.repeat(count // len(foreign), 1, 1, 1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y: Tensor = self.proj(attended.transpose(1, 2).reshape(count, n, channels))
        return y


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


def _relative_positions(window: int) -> Tensor:
    """Return the row of the table [window⁴] for each pair of places of a window."""
    place = torch.arange(window)
    apart = place[:, None] - place + window - 1  # [window, window] from 0
    both = apart[:, None, :, None] * (2 * window - 1) + apart[None, :, None, :]
    return both.reshape(-1)


@cache
def _foreign(height: int, width: int, side: int, shift: int) -> Tensor:
    """Return which pairs of a window [windows, n, n] only meet because the map was rolled."""

    def part(length: int) -> Tensor:
        """Number the stretches of an axis: what a window holds of two comes from opposite edges."""
        at = torch.arange(length)
        return (at >= length - side).long() + (at >= length - shift).long()

    region = 3 * part(height)[:, None] + part(width)
    windows = region.reshape(height // side, side, width // side, side).transpose(1, 2)
    flat = windows.reshape(-1, side * side)
    return flat[:, :, None] != flat[:, None, :]


ELSE = re.compile(r"head\.|classifier\.|.*\.(?:relative_position_index|attn_mask)$")
"""What files hold beside the trunk: the classifier's head, and constants."""

TRANSFORMERS = {
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.": "patch_embed.",
    "encoder.": "",
    "layernorm.": "norm.",
}
TRANSFORMERS_BLOCK = {
    "layernorm_before.": "norm1.",
    "layernorm_after.": "norm2.",
    "attention.self.": "attn.",
    "attention.output.dense.": "attn.proj.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}


def read_swin(trunk: Swin, path: str | Path) -> list[str]:
    """Fill a trunk with published weights; return the names in the file that had no use.

    path: timm's names, those of transformers (`swin.encoder…`), or those of the paper's own code.
    A stem of three channels becomes one of a single channel by the sum over the three, which shows
    a grey picture as it was. Raises WeightsError, with what does not fit.
    """
    tensors = read_tensors(path)
    found = {n: v for n, v in in_timm_s_names(tensors).items() if not ELSE.match(n)}
    stem = found.get("patch_embed.proj.weight")
    if stem is not None and stem.ndim == 4 and trunk.patch_embed.proj.in_channels == 1:
        found["patch_embed.proj.weight"] = stem.sum(dim=1, keepdim=True)
    if problems := differences(trunk.state_dict(), found):
        raise WeightsError(
            f"{path} does not fit this Swin Transformer: {problems}; take a Swin-T of windows of "
            "7, as timm's swin_tiny_patch4_window7_224"
        )
    trunk.load_state_dict(found)
    return [name for name in tensors if ELSE.match(name)]


def in_timm_s_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Swin Transformer of any of the layouts under timm's names."""
    plain = {name.removeprefix("module.").removeprefix("swin."): v for name, v in tensors.items()}
    if any(name.startswith("encoder.layers.") for name in plain):
        plain = _of_transformers(plain)
    if not any(name.startswith("layers.0.downsample.") for name in plain):
        return plain
    # Elsewhere the places are merged at the end of a stage, here at the beginning of the next.
    return {
        re.sub(
            r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample.", n
        ): v
        for n, v in plain.items()
    }


def _of_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return them renamed, query, key and value as one."""
    found: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        old = next((old for old in TRANSFORMERS if name.startswith(old)), "")
        name = TRANSFORMERS.get(old, "") + name.removeprefix(old)
        if match := re.match(r"(layers\.\d+\.blocks\.\d+\.)(.*)", name):
            own = next((own for own in TRANSFORMERS_BLOCK if match[2].startswith(own)), "")
            name = match[1] + TRANSFORMERS_BLOCK.get(own, "") + match[2].removeprefix(own)
        if match := re.match(r"(.*\.attn\.)(query|key|value)\.(weight|bias)$", name):
            parts.setdefault(f"{match[1]}qkv.{match[3]}", {})[match[2]] = value
        else:
            found[name] = value
    for name, three in parts.items():
        found[name] = torch.cat(
            [three[part] for part in ("query", "key", "value") if part in three]
        )
    return found
