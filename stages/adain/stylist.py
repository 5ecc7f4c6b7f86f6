"""AdaIN put together as a painter: it restyles a picture by another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avdata.errors import SettingsError
from avdata.frames import squash
from stages.adain.model import AdaIn
from stages.engine.checkpoint import load_model
from stages.engine.errors import CheckpointError
from stages.generation.opening import painting_device, source_of, wrong_kind
from stages.generation.painter import Ask
from stages.nn.pictures import as_images, as_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stages.family import Opening

PART = "adain"
TRAINER = "train_adain"


@dataclass(frozen=True, kw_only=True)
class Stylist:
    """A trained AdaIN, frozen, on its device. sources: its file and SHA-256."""

    network: AdaIn
    device: torch.device
    sources: Mapping[str, Mapping[str, str]]

    @property
    def resolution_px(self) -> int:
        """Side of its pictures: the one it was trained on."""
        return self.network.side_px

    def identity(self) -> dict[str, Any]:
        """Return what its pictures depend on."""
        return {"weights": {part: source["sha256"] for part, source in self.sources.items()}}

    @torch.no_grad()
    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return the picture of each ask in the style of its other picture, [N, R, R, 3].

        Nothing is drawn at random. Raises SettingsError for an ask without one of the two.
        """
        for ask in asks:
            if ask.picture is None or ask.style is None:
                raise SettingsError(
                    f"{ask.key}: AdaIN restyles a picture by another one, and hears nothing"
                )
        contents = [ask.picture.image for ask in asks if ask.picture is not None]
        styles = [ask.style.image for ask in asks if ask.style is not None]
        side = self.resolution_px
        content, style = (
            as_pictures(np.stack([squash(image, side, side) for image in own]), self.device)
            for own in (contents, styles)
        )
        return as_images(self.network.restyle(content, style))


def open_stylist(opening: Opening) -> Stylist:
    """Return what train_adain made; raises CheckpointError for another file, or for none."""
    given = opening.parts.get(PART)
    if given is None:
        if opening.run is None:
            raise CheckpointError("nothing to restyle with: give --run FOLDER or --adain FILE")
        given = Path(opening.run) / "stages" / TRAINER
    network, metadata = load_model(given)
    if not isinstance(network, AdaIn):
        raise wrong_kind(Path(given), metadata["model"], PART, TRAINER)
    device = painting_device(opening.device)
    return Stylist(
        network=network.requires_grad_(False).to(device),
        device=device,
        sources={PART: source_of(Path(given))},
    )
