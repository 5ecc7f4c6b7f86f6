"""Encoders that tell the code of a picture in one pass: pSp and e4e, as published.

Richardson et al., Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation, CVPR 2021
(pSp); Tov et al., Designing an Encoder for StyleGAN Image Manipulation, SIGGRAPH 2021 (e4e). Both
read a pyramid off IR-SE-50 and add one offset for each latent to the mean latent:

    pSp   ws_l = w̄_l + f_l(x)
    e4e   ws_l = w̄_l + f_0(x) + f_l(x),   l > 0: one latent for all layers, and how each differs
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata import weights
from avdata.errors import SettingsError, WeightsError
from stages.nn.ir_se import first_layer, units
from stages.nn.published import differences, read_plain
from stages.stylegan2.layers import Linear

Kind = Literal["psp", "e4e"]
TYPES: dict[str, Kind] = {"GradualStyleEncoder": "psp", "Encoder4Editing": "e4e"}
"""What a published file calls its encoder → ours."""
SEEN_PX, DIM = 256, 512
TAKEN = (6, 20, 23)  # units after which features are read, of 128, 256 and 512 channels
COARSE, MIDDLE = 3, 7  # latents below which the coarse, and the middle, features tell
SLOPE = 0.01


class Style(nn.Module):
    """Features [B, 512, S, S] → an offset [B, 512]: convolutions halve the side down to 1."""

    def __init__(self, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(side))):
            layers += [nn.Conv2d(DIM, DIM, 3, 2, padding=1), nn.LeakyReLU(SLOPE)]
        self.convs = nn.Sequential(*layers)
        self.linear = Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        offset: Tensor = self.linear(self.convs(x).flatten(1))
        return offset


class PictureEncoder(nn.Module):
    """Pictures [B, 3, 256, 256] in [-1, 1] → codes [B, L, 512].

    kind: how offsets add up. `latent_avg` [L, 512]: the mean latent they are added to.
    """

    latent_avg: Tensor

    def __init__(self, kind: Kind, n_latents: int) -> None:
        super().__init__()
        if kind not in TYPES.values():
            raise ValueError(f"kind must be psp or e4e, got {kind!r}")
        self.kind, self.n_latents = kind, n_latents
        self.input_layer, self.body = first_layer(), units()
        sides = [16 if n < COARSE else 32 if n < MIDDLE else 64 for n in range(n_latents)]
        self.styles = nn.ModuleList(Style(side) for side in sides)
        self.latlayer1 = nn.Conv2d(256, DIM, 1)
        self.latlayer2 = nn.Conv2d(128, DIM, 1)
        self.register_buffer("latent_avg", torch.zeros(n_latents, DIM))

    def forward(self, pictures: Tensor) -> Tensor:
        coarse, middle, fine = self.features(pictures)
        offsets = torch.stack(
            [
                style(coarse if n < COARSE else middle if n < MIDDLE else fine)
                for n, style in enumerate(self.styles)
            ],
            dim=1,
        )
        if self.kind == "e4e":
            shared = torch.zeros_like(offsets)
            shared[:, 1:] = offsets[:, :1]
            offsets = offsets + shared
        return self.latent_avg + offsets

    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return [B, 512, S, S] at the sides 16, 32 and 64, each with the coarser one added."""
        x = self.input_layer(pictures)
        found = []
        for number, unit in enumerate(self.body):
            x = unit(x)
            if number in TAKEN:
                found.append(x)
        fine, middle, coarse = found
        second = _added(coarse, self.latlayer1(middle))
        return coarse, second, _added(second, self.latlayer2(fine))


def _added(small: Tensor, large: Tensor) -> Tensor:
    """Return the sum at the larger side; corners are aligned, as published."""
    grown = F.interpolate(small, large.shape[2:], mode="bilinear", align_corners=True)
    return grown + large


def load_encoder(given: str | Path, kind: Kind | None = None) -> PictureEncoder:
    """Return a published encoder (.pt with `encoder.` keys and `latent_avg`), in eval mode.

    given: a file, or its name in the weights table. kind: where the file does not tell. The number
    of latents is read off its tensors. Raises WeightsError for a file in another layout.
    """
    path = weights.resolve(given)
    content = read_plain(path)
    tensors, mean, told = _parts(path, content)
    kind = told or kind
    if kind is None:
        raise SettingsError(
            f"{path} does not tell whether it is a pSp or an e4e encoder, whose tensors have the "
            "same names: say which, psp or e4e"
        )
    n_latents = len({match[1] for name in tensors if (match := re.match(r"styles\.(\d+)\.", name))})
    model = PictureEncoder(kind, n_latents)
    mean = mean.expand(n_latents, -1) if mean.ndim == 1 or len(mean) == 1 else mean
    wanted = model.state_dict()
    counters = {name: value for name, value in wanted.items() if name.endswith("batches_tracked")}
    found = {**counters, **tensors, "latent_avg": mean}
    if problems := differences(wanted, found):
        raise WeightsError(f"{path} does not fit a pSp or e4e encoder: {problems}")
    model.load_state_dict(found)
    return model.eval()


def _parts(path: Path, content: object) -> tuple[dict[str, Tensor], Tensor, Kind | None]:
    """Return the encoder's tensors, the mean latent, and which encoder it is, if the file tells."""
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no table of tensors: is it a pSp or e4e checkpoint?")
    named = content.get("state_dict", content)
    options = content.get("opts")
    told = options.get("encoder_type") if isinstance(options, Mapping) else None
    tensors = {
        str(name).removeprefix("encoder."): value
        for name, value in (named.items() if isinstance(named, Mapping) else ())
        if str(name).startswith("encoder.") and isinstance(value, Tensor)
    }
    mean = content.get("latent_avg")
    if not tensors or not isinstance(mean, Tensor):
        shown = ", ".join(map(str, list(content)[:4]))
        raise WeightsError(
            f"{path} is no pSp or e4e checkpoint: it needs tensors encoder.* and latent_avg, the "
            f"mean latent; it holds {shown}"
        )
    return tensors, mean, TYPES.get(str(told))
