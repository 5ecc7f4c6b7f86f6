"""StyleGAN2 generators that others have published → ours, in either of the two usual layouts.

    NVIDIA's, of its pickles or of a converted file: `synthesis.b8.conv0.affine.weight`
    the PyTorch port's, of its .pt files: `convs.0.conv.modulation.weight`

The numbers are the same in both; only names and empty axes differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from avdata.errors import WeightsError
from stages.nn.published import differences, read_plain
from stages.stylegan2.generator import FIRST_PX, Generator
from stages.stylegan2.pickles import read_pickle

UNUSED = re.compile(
    r".*(resample_filter|blur\.kernel|upsample\.kernel)$"
)  # filters: always the same
NVIDIA_PARTS = {
    "weight": "conv.weight",
    "affine.weight": "conv.affine.weight",
    "affine.bias": "conv.affine.bias",
    "bias": "bias",
    "noise_strength": "noise_gain",
    "noise_const": "noise",
}
PORT_PARTS = {
    "conv.weight": "conv.weight",
    "conv.modulation.weight": "conv.affine.weight",
    "conv.modulation.bias": "conv.affine.bias",
    "activate.bias": "bias",
    "bias": "bias",
    "noise.weight": "noise_gain",
}


def load_generator(path: str | Path) -> Generator:
    """Return the generator of a published file (.pkl, .pt, .pth or .safetensors), in eval mode.

    Its sizes are read off the tensors. Raises WeightsError, naming what is missing or left over,
    for a file in neither layout.
    """
    return generator_of(read_generator(Path(path)), path)


def generator_of(tensors: Mapping[str, Tensor], path: str | Path) -> Generator:
    """Return the generator with these tensors; raises WeightsError, which names the file."""
    named = renamed(tensors)
    try:
        generator = Generator(**sizes(named))
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"{path} is no StyleGAN2 generator in a known layout: {error} is missing or of another "
            f"shape; it holds {', '.join(sorted(tensors)[:4])}, ..."
        ) from None
    wanted = generator.state_dict()
    # The port has empty axes that we have not.
    found = {
        name: value.reshape(wanted[name].shape)
        if name in wanted and value.numel() == wanted[name].numel()
        else value
        for name, value in named.items()
    }
    if problems := differences(wanted, found):
        raise WeightsError(f"{path} does not fit a StyleGAN2 generator: {problems}")
    generator.load_state_dict(found)
    return generator.eval()


def read_generator(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, of its averaged generator where it holds several networks.

    Nothing in it is executed. Raises WeightsError for a file that holds none.
    """
    if path.suffix == ".pkl":
        return read_pickle(path)
    content = read_plain(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no table of tensors: is it a checkpoint of weights?")
    mean = content.get("latent_avg")
    if isinstance(content.get("g_ema"), dict):
        content = {**content["g_ema"], **({"latent_avg": mean} if mean is not None else {})}
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names; what is in neither layout keeps its own."""
    return {
        _nvidia(name) or _port(name) or name: value
        for name, value in tensors.items()
        if not UNUSED.match(name)
    }


def _nvidia(name: str) -> str | None:
    if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
        return f"mapping.layers.{match[1]}.{match[2]}"
    if name == "mapping.w_avg":
        return "mapping.w_mean"
    if name == f"synthesis.b{FIRST_PX}.const":
        return "synthesis.const"
    if match := re.fullmatch(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)", name):
        side, layer, part = int(match[1]), match[2], NVIDIA_PARTS.get(match[3])
        if part is None:
            return None
        if side == FIRST_PX:
            return f"synthesis.{'to_rgb' if layer == 'torgb' else 'first'}.{part}"
        ours = {"conv0": "up", "conv1": "same", "torgb": "to_rgb"}[layer]
        return f"synthesis.blocks.{int(math.log2(side)) - 3}.{ours}.{part}"
    return None


def _port(name: str) -> str | None:
    fixed = {"latent_avg": "mapping.w_mean", "input.input": "synthesis.const"}
    if name in fixed:
        return fixed[name]
    if match := re.fullmatch(r"style\.(\d+)\.(weight|bias)", name):  # style.0 normalises
        return f"mapping.layers.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d+)", name):
        return f"{_port_layer(int(match[1]) - 1)}.noise"
    if match := re.fullmatch(r"(conv1|to_rgb1|convs\.(\d+)|to_rgbs\.(\d+))\.(.+)", name):
        part = PORT_PARTS.get(match[4])
        if part is None:
            return None
        if match[1] == "to_rgb1":
            return f"synthesis.to_rgb.{part}"
        if match[3] is not None:
            return f"synthesis.blocks.{match[3]}.to_rgb.{part}"
        return f"{_port_layer(-1 if match[2] is None else int(match[2]))}.{part}"
    return None


def _port_layer(number: int) -> str:
    """Return our name of its convs.NUMBER; -1: conv1, before them."""
    if number < 0:
        return "synthesis.first"
    return f"synthesis.blocks.{number // 2}.{'same' if number % 2 else 'up'}"


def sizes(named: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the settings of the generator with these tensors.

    Raises KeyError or ValueError where they cannot be told.
    """
    blocks = {int(n.split(".")[2]) for n in named if n.startswith("synthesis.blocks.")}
    layers = {int(n.split(".")[2]) for n in named if n.startswith("mapping.layers.")}
    resolution = 2 ** (len(blocks) + 2)
    first = named["mapping.layers.0.weight"]
    width = named["synthesis.const"].reshape(-1).numel() // FIRST_PX**2
    last = named[f"synthesis.blocks.{len(blocks) - 1}.same.bias"].numel()
    # Below `most`, a layer of the side R has base / R channels.
    base = last * resolution
    return {
        "resolution": resolution,
        "z_dim": first.shape[1],
        "w_dim": first.shape[0],
        "mapping_layers": len(layers),
        "base": base,
        "most": width,
    }
