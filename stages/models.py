"""Networks by name: one architecture per file, imported when it is first built.

model = build("audio_encoder", arch="tiny", out_dim=128)
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from avdata.errors import SettingsError, nearest

if TYPE_CHECKING:
    from torch import nn

MODELS: dict[str, str] = {
    "audio_encoder": "stages.sound2scene.audio_encoder:AudioEncoder",
    "image_encoder": "stages.image_encoder.model:ImageEncoder",
    "swav": "stages.image_encoder.model:SwAV",
    "localizer": "stages.localizer.model:Localizer",
    "inception": "stages.nn.inception:InceptionV3",
    "icgan_generator": "stages.sound2scene.icgan:Generator",
    "icgan_discriminator": "stages.sound2scene.icgan:Discriminator",
}
"""Name → `module:factory`."""


def build(name: str, **settings: Any) -> nn.Module:
    """Return a new network; its weights are drawn from torch's global generator.

    Raises SettingsError for a name that is not in MODELS and for settings the network lacks or
    refuses.
    """
    if name not in MODELS:
        raise SettingsError(f"no model is called {name!r}; {nearest(name, MODELS)}")
    module, attribute = MODELS[name].split(":")
    factory = getattr(import_module(module), attribute)
    try:
        inspect.signature(factory).bind(**settings)
    except TypeError as error:
        known = ", ".join(inspect.signature(factory).parameters)
        raise SettingsError(f"model {name}: {error}; it takes {known}") from None
    try:
        model: nn.Module = factory(**settings)
    except ValueError as error:
        raise SettingsError(f"model {name}: {error}") from None
    return model
