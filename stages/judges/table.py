"""The encoders that can be asked for by name, each with its own preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from avdata.errors import SettingsError, nearest
from stages.judges.thumbnail import Thumbnail
from stages.nn.encoder import Encoder

if TYPE_CHECKING:
    import torch

    from stages.judges.inception import Resize


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Where an encoder's weights come from, and how it sees; what one does not use it ignores.

    weights: a file, a folder, or a name on a hub; None: the standard ones. rate_hz: of the sounds
    that it is given.
    """

    device: torch.device
    weights: str | None = None
    resize: Resize = "bicubic"
    view_px: int = 256
    input_px: int | None = 224
    rate_hz: int = 16_000


def _clip(wish: Wish) -> Encoder:
    from stages.judges.clip import DEFAULT, ClipEncoder

    return ClipEncoder.load(wish.weights or DEFAULT, device=wish.device)


def _inception(wish: Wish) -> Encoder:
    from stages.judges.inception import InceptionFeatures

    return InceptionFeatures.load(wish.weights, resize=wish.resize, device=wish.device)


def _image_encoder(wish: Wish) -> Encoder:
    from stages.image_encoder.frozen import load_image_encoder

    if wish.weights is None:
        raise SettingsError("an image encoder is no standard one: name its folder or file")
    encoder = load_image_encoder(wish.weights, view_px=wish.view_px, input_px=wish.input_px)
    encoder.network.to(wish.device)
    return encoder


def _openl3(wish: Wish) -> Encoder:
    from stages.judges.openl3 import OpenL3

    return OpenL3.load(wish.weights, rate_hz=wish.rate_hz, device=wish.device)


def _avc(wish: Wish) -> Encoder:
    from stages.judges.avc import TrainedAvc

    if wish.weights is None:
        raise SettingsError("the AVC network is no standard one: name what train_avc wrote")
    return TrainedAvc.load(wish.weights, rate_hz=wish.rate_hz, device=wish.device)


ENCODERS: dict[str, Callable[[Wish], Encoder]] = {
    "clip": _clip,  # pictures and texts
    "inception": _inception,  # pictures
    "swav": _image_encoder,  # pictures; the published file, or a training of ours
    "openl3": _openl3,  # pictures and sounds
    "avc": _avc,  # pictures and sounds; a training of ours
    "thumbnail": lambda _: Thumbnail(),  # pictures
}
"""Name → what opens it; raises AvdataError for weights that cannot be had."""


def open_encoder(name: str, wish: Wish) -> Encoder:
    """Return an encoder by name; raises SettingsError for an unknown one."""
    if name not in ENCODERS:
        raise SettingsError(f"no encoder is called {name!r}; {nearest(name, ENCODERS)}")
    return ENCODERS[name](wish)
