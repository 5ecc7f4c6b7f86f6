"""What an ask follows: its sound, its text, both, or else its picture, as a unit vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avdata.errors import SettingsError
from stages.generation.painter import Ask
from stages.nn.sphere import interpolated

if TYPE_CHECKING:
    from stages.sound_guided.manipulator import Manipulator


def directions(model: Manipulator, asks: Sequence[Ask]) -> Tensor:
    """Return the direction of each ask, [N, D]; what several share is encoded once.

    Of a sound and a text the mean. Raises SettingsError for an ask that has none.
    """
    for ask in asks:
        if ask.style is not None or not (told(ask) or ask.picture is not None):
            raise SettingsError(
                f"{ask.key}: a picture is moved by a sound, a text, or another picture; it "
                "takes no style, and needs one of them"
            )
    sounds = {id(ask.sound): ask.sound for ask in asks if ask.sound is not None}
    texts = list(dict.fromkeys(ask.text for ask in asks if ask.text))
    alone = [ask.picture for ask in asks if guides(ask) and ask.picture is not None]
    pictures = {id(picture): picture for picture in alone}
    known: dict[Any, Tensor] = {}
    if sounds:
        known |= zip(sounds, model.heard(list(sounds.values())), strict=True)
    if texts:
        known |= zip(texts, model.told(texts), strict=True)
    if pictures:
        images = [picture.image for picture in pictures.values()]
        known |= zip(pictures, model.shown(images), strict=True)
    rows = []
    for ask in asks:
        if guides(ask):
            rows.append(known[id(ask.picture)])
            continue
        given = [known[id(ask.sound)]] if ask.sound is not None else []
        given += [known[ask.text]] if ask.text else []
        rows.append(given[0] if len(given) == 1 else interpolated(given[0], given[1], 0.5))
    return torch.stack(rows)


def guides(ask: Ask) -> bool:
    """Tell whether the ask's picture is what guides: there is neither sound nor text."""
    return not told(ask)


def told(ask: Ask) -> bool:
    """Tell whether the ask has a sound or a text."""
    return ask.sound is not None or bool(ask.text)
