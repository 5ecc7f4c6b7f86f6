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
    "image_encoder": "stages.image_encoder.model:ImageEncoder",
    "swav": "stages.image_encoder.model:SwAV",
    "localizer": "stages.localizer.model:Localizer",
    "inception": "stages.nn.inception:InceptionV3",
    "avc": "stages.nn.avc:AvcNetwork",
    "clip_towers": "stages.text_image.towers:Towers",
    "stylegan2_generator": "stages.stylegan2.generator:Generator",
}
"""Name → `module:factory` of what several families use; the others stand in families' records."""


def models() -> dict[str, str]:
    """Return all networks by name."""
    from stages.families import families

    return MODELS | {name: place for one in families() for name, place in one.models.items()}


def build(name: str, **settings: Any) -> nn.Module:
    """Return a new network; its weights are drawn from torch's global generator.

    Raises SettingsError for a name that is not known and for settings the network lacks or refuses.
    """
    known = models()
    if name not in known:
        raise SettingsError(f"no model is called {name!r}; {nearest(name, known)}")
    module, attribute = known[name].split(":")
    factory = getattr(import_module(module), attribute)
    try:
        inspect.signature(factory).bind(**settings)
    except TypeError as error:
        takes = ", ".join(inspect.signature(factory).parameters)
        raise SettingsError(f"model {name}: {error}; it takes {takes}") from None
    try:
        model: nn.Module = factory(**settings)
    except ValueError as error:
        raise SettingsError(f"model {name}: {error}") from None
    return model
