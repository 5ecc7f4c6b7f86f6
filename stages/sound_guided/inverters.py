"""Which way pictures are found again, as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from avdata import weights
from avdata.errors import SettingsError
from avdata.store import sha256_file
from stages.generation.opening import source_of
from stages.nn.vgg import load_vgg19
from stages.sound_guided.codes import LatentGenerator, Spread
from stages.sound_guided.inversion import (
    Encoded,
    Projector,
    ProjectorSettings,
    Views,
    also_layers,
    also_seen,
    pyramid,
)
from stages.stylegan2.encoders import Kind, load_encoder
from stages.text_image.model import TextImage

PROJECTOR, PYRAMID, CLIP = "projector", "pyramid", "clip"


def projector_of(
    generator: LatentGenerator,
    spread: Spread,
    eye: TextImage,
    compare: str | Path,
    device: torch.device,
    settings: Mapping[str, Any],
) -> Projector:
    """Return a projector that compares what it is told to.

    compare: pyramid, clip, or a VGG-19, by file or name. Raises WeightsError for a file that is
    none, SettingsError for settings out of bounds.
    """
    views: Views = pyramid
    named = str(compare)
    if named == CLIP:
        views = also_seen(eye.seen)
    elif named != PYRAMID:
        views = also_layers(load_vgg19(compare).requires_grad_(False).eval().to(device))
        named = sha256_file(weights.resolve(compare))
    try:
        found = ProjectorSettings(**settings)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the projector: {error}") from None
    return Projector(generator, spread, found, views, named)


def encoder_of(
    generator: LatentGenerator, given: str | Path, kind: Kind | None, device: torch.device
) -> Encoded:
    """Return a pSp or e4e encoder; raises SettingsError for one of another generator."""
    encoder = load_encoder(given, kind).requires_grad_(False).to(device)
    return Encoded(encoder, generator, source_of(weights.resolve(given)))
