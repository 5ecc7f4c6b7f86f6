"""Published generators of either kind → ours, told by what is in the file.

A StyleGAN3 is one of NVIDIA's pickles or a converted file: `synthesis.L0_36_512.affine.weight`. Its
filters are held against those of the paper's configuration T, so that no other passes for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from avdata.errors import WeightsError
from stages.nn.published import differences
from stages.stylegan2 import generator as stylegan2
from stages.stylegan2.published import generator_of, read_generator
from stages.stylegan3.generator import KERNEL, Generator, Layer

LAYER = re.compile(r"synthesis\.L(\d+)_(\d+)_(\d+)\.(.+)")
FILTERS = ("up_filter", "down_filter")
TOLERANCE = 1e-5  # of filters that were designed in float64 and kept in float32


def load_generator(path: str | Path) -> Generator | stylegan2.Generator:
    """Return the StyleGAN2 or StyleGAN3 generator of a published file, in eval mode.

    Raises WeightsError, naming what is missing or left over, for a file that is neither.
    """
    tensors = read_generator(Path(path))
    if any(LAYER.fullmatch(name) for name in tensors):
        return stylegan3_of(tensors, path)
    return generator_of(tensors, path)


def stylegan3_of(tensors: Mapping[str, Tensor], path: str | Path) -> Generator:
    """Return the generator with these tensors, its sizes read off them; raises WeightsError."""
    named = {renamed(name): value for name, value in tensors.items()}
    try:
        generator = Generator(**sizes(tensors))
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path} is no StyleGAN3 generator in the published layout: {error}; it holds "
            f"{', '.join(sorted(tensors)[:4])}, ..."
        ) from None
    found = {name: value for name, value in named.items() if not name.endswith(FILTERS)}
    if problems := differences(generator.state_dict(), found):
        raise WeightsError(f"{path} does not fit a StyleGAN3 generator: {problems}")
    for number, layer in enumerate(generator.synthesis.layers):
        assert isinstance(layer, Layer)
        _require_filters(layer, named, f"synthesis.layers.{number}", path)
    generator.load_state_dict(found)
    return generator.eval()


def _require_filters(
    layer: Layer, named: Mapping[str, Tensor], place: str, path: str | Path
) -> None:
    own = layer.filtered
    for kind, taps in (("up", own.up_taps / own.up), ("down", own.down_taps)):
        theirs = named.get(f"{place}.{kind}_filter", torch.ones(1))
        if theirs.shape != taps.shape or not torch.allclose(theirs.float(), taps, atol=TOLERANCE):
            raise WeightsError(
                f"{path}: the {kind}-sampling filter of {place} is not that of configuration T at "
                "this size, the only one that is read; a StyleGAN3-R is not"
            )


def renamed(name: str) -> str:
    """Return our name of a published tensor; what is not in the layout keeps its own."""
    if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
        return f"mapping.layers.{match[1]}.{match[2]}"
    if name == "mapping.w_avg":
        return "mapping.w_mean"
    if match := LAYER.fullmatch(name):
        return f"synthesis.layers.{match[1]}.{match[4]}"
    return name.replace("synthesis.input.", "synthesis.waves.", 1)


def sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the settings of the generator with these tensors; KeyError or ValueError if unclear.

    The layer before the colours is at half the resolution, in cycles, so it has base / R channels.
    """
    layers = {int(m[1]): m for m in map(LAYER.fullmatch, tensors) if m is not None}
    last = max(layers)
    if sorted(layers) != list(range(last + 1)) or last < 1:
        raise ValueError(f"of its layers only {sorted(layers)} are there")
    kernel = tensors[f"synthesis.L0_{layers[0][2]}_{layers[0][3]}.weight"].shape[-1]
    if kernel != KERNEL:
        raise ValueError(f"its convolutions are {kernel}×{kernel}, as a StyleGAN3-R's, not 3×3")
    first = tensors["mapping.fc0.weight"]
    resolution = int(layers[last][2])
    return {
        "resolution": resolution,
        "z_dim": first.shape[1],
        "w_dim": first.shape[0],
        "mapping_layers": sum(1 for n in tensors if re.fullmatch(r"mapping\.fc\d+\.weight", n)),
        "layers": last,
        "base": int(layers[last - 1][3]) * resolution,
        "most": int(layers[0][3]),
    }
