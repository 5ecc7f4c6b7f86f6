"""The layout of published IC-GAN checkpoints (BigGAN backbone), to and from ours.

Facts about that layout: `shared` is a class embedding that instance conditioning never uses;
`blocks.i.0` is a residual block and `blocks.i.1` its self-attention; `u0` [1, out] is a layer's
left singular vector and `sv0` a logged singular value; batch norm keeps its statistics either as
`stored_mean` / `stored_var` beside `gain` / `bias`, or in an inner `bn` when it was trained across
replicas; weights trained in parallel carry the prefix `module.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from avdata.errors import WeightsError
from stages.nn.published import read_plain
from stages.sound2scene.icgan import (
    BOTTOM_PX,
    DISCRIMINATOR_WIDTHS,
    GENERATOR_WIDTHS,
    Discriminator,
    Generator,
)

Network = Literal["generator", "discriminator"]
State = Mapping[str, Tensor]

CLASSES, CLASS_DIM = 1000, 128  # of the unused class embedding

# (published, ours): names of layers, the first that fits counts; {n} is a number, {m} a name.
_BLOCK = [("blocks.{n}.0.{m}", "blocks.{n}.{m}")]
_ATTENTION = [("blocks.{n}.1", "attentions.{n}"), ("blocks.{n}.1.{m}", "attentions.{n}.{m}")]
_LAYERS: dict[Network, list[tuple[str, str]]] = {
    "generator": [
        ("shared_feat", "embed_feature"),
        ("linear", "first"),
        ("blocks.{n}.0.bn{m}", "blocks.{n}.bn{m}.norm"),
        ("blocks.{n}.0.bn{m}.gain", "blocks.{n}.bn{m}.gain"),
        ("blocks.{n}.0.bn{m}.bias", "blocks.{n}.bn{m}.bias"),
        *_BLOCK,
        *_ATTENTION,
        ("output_layer.0", "output_norm"),
        ("output_layer.2", "output_conv"),
    ],
    "discriminator": [
        ("linear", "score"),
        ("linear_feat", "embed_feature"),
        *_BLOCK,
        *_ATTENTION,
    ],
}
_NORM_LEAVES = {
    "stored_mean": "running_mean",
    "stored_var": "running_var",
    "gain": "weight",
    "bias": "bias",
}


def from_published(state: State, network: Network) -> dict[str, Tensor]:
    """Return a published state dict under our names.

    Drops what is not used: the class embedding, logged singular values.
    Raises WeightsError for a name that the layout does not have, such as a second singular vector.
    """
    ours: dict[str, Tensor] = {}
    for full_name, value in state.items():
        name = full_name.removeprefix("module.")
        if name == "shared.weight" or name.endswith(".sv0"):
            continue
        layer, _, leaf = name.rpartition(".")
        layer = re.sub(r"(bn1|bn2|output_layer\.0)\.bn$", r"\1", layer)
        target = _renamed(layer, _LAYERS[network])
        if leaf == "u0":
            ours[f"{target}.u"] = value.reshape(-1)
        elif target.rpartition(".")[2] in ("norm", "output_norm"):
            ours[f"{target}.{_NORM_LEAVES.get(leaf, leaf)}"] = value
            if leaf == "stored_mean":  # ours counts batches too, theirs does so only in `bn`
                ours[f"{target}.num_batches_tracked"] = torch.tensor(0)
        else:
            ours[f"{target}.{leaf}"] = value
    return ours


def to_published(state: State, network: Network) -> dict[str, Tensor]:
    """Return our state dict in the published layout, without the prefix `module.`.

    The class embedding is zero and the logged singular values one, as at the start of training.
    """
    published: dict[str, Tensor] = {}
    if network == "generator":
        published["shared.weight"] = torch.zeros(CLASSES, CLASS_DIM)
    back = {ours: theirs for theirs, ours in _NORM_LEAVES.items()}
    layers = [(ours, theirs) for theirs, ours in _LAYERS[network]]
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        target = _renamed(layer, layers)
        if leaf == "u":
            published[f"{target}.u0"] = value.reshape(1, -1)
            published[f"{target}.sv0"] = torch.ones(1)
        elif layer.rpartition(".")[2] in ("norm", "output_norm"):
            if leaf != "num_batches_tracked":
                published[f"{target}.{back[leaf]}"] = value
        else:
            published[f"{target}.{leaf}"] = value
    return published


def load_generator(path: str | Path) -> Generator:
    """Return the published generator in `path` (a state dict), its sizes read from the shapes.

    In evaluation mode. Raises WeightsError for an unreadable file or another network's.
    """
    state = from_published(_read(path), "generator")
    with _explained(path, "generator"):
        resolution = _resolution_by_blocks(state, GENERATOR_WIDTHS, 1)
        widths = GENERATOR_WIDTHS[resolution]
        embed_dim, feature_dim = state["embed_feature.weight"].shape
        generator = Generator(
            resolution=resolution,
            channels=state["output_conv.weight"].shape[1] // widths[-1],
            z_dim=state["first.weight"].shape[1] * len(widths),
            feature_dim=feature_dim,
            embed_dim=embed_dim,
            attention_px=[BOTTOM_PX * 2 ** (n + 1) for n in _attention_blocks(state)],
        )
        generator.load_state_dict(state)
    return generator.eval()


def load_discriminator(path: str | Path) -> Discriminator:
    """Return the published discriminator in `path`, to go on training with it.

    Raises WeightsError for an unreadable file or another network's.
    """
    state = from_published(_read(path), "discriminator")
    with _explained(path, "discriminator"):
        resolution = _resolution_by_blocks(state, DISCRIMINATOR_WIDTHS, 0)
        feature_width, feature_dim = state["embed_feature.weight"].shape
        discriminator = Discriminator(
            resolution=resolution,
            channels=feature_width // DISCRIMINATOR_WIDTHS[resolution][-1],
            feature_dim=feature_dim,
            attention_px=[resolution // 2 ** (n + 1) for n in _attention_blocks(state)],
        )
        discriminator.load_state_dict(state)
    return discriminator


def _renamed(layer: str, names: list[tuple[str, str]]) -> str:
    for source, target in names:
        pattern = (
            re.escape(source).replace(r"\{n\}", r"(?P<n>\d+)").replace(r"\{m\}", r"(?P<m>\w+)")
        )
        if found := re.fullmatch(pattern, layer):
            return target.format(**found.groupdict())
    known = ", ".join(source for source, _ in names)
    raise WeightsError(f"{layer} is no layer of this network (known: {known}); is it another's?")


def _resolution_by_blocks(state: State, widths: dict[int, tuple[int, ...]], extra: int) -> int:
    """Return the resolution whose number of blocks this is."""
    n_blocks = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    return next(side for side, w in widths.items() if len(w) - extra == n_blocks)


def _attention_blocks(state: State) -> list[int]:
    return sorted({int(name.split(".")[1]) for name in state if name.startswith("attentions.")})


def _read(path: str | Path) -> dict[str, Tensor]:
    state = read_plain(path)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no plain state dict; give the file of one network")
    return state


@contextmanager
def _explained(path: str | Path, network: Network) -> Iterator[None]:
    try:
        yield
    except (KeyError, StopIteration, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is not an instance-conditioned {network} of the published sizes: {error}"
        ) from None
