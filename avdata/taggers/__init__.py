"""The taggers by name. Each module is imported only when its tagger is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from avdata.errors import SettingsError

if TYPE_CHECKING:
    from avdata.config import TagSettings
    from avdata.taggers.base import Tagger


def _yamnet(settings: TagSettings) -> Tagger:
    from avdata.taggers.yamnet import Yamnet

    return Yamnet(settings.yamnet)


def _loudness(settings: TagSettings) -> Tagger:
    from avdata.taggers.sound import Loudness

    return Loudness()


def _silence(settings: TagSettings) -> Tagger:
    from avdata.taggers.sound import Silence

    return Silence(settings.silence_dbfs)


def _stillness(settings: TagSettings) -> Tagger:
    from avdata.taggers.picture import Stillness

    return Stillness(settings.still_difference)


def _scenes(settings: TagSettings) -> Tagger:
    from avdata.taggers.picture import Scenes

    return Scenes(settings.cut_difference)


def _brightness(settings: TagSettings) -> Tagger:
    from avdata.taggers.picture import Brightness

    return Brightness()


TAGGERS: dict[str, Callable[[TagSettings], Tagger]] = {
    "yamnet": _yamnet,
    "loudness": _loudness,
    "silence": _silence,
    "stillness": _stillness,
    "scenes": _scenes,
    "brightness": _brightness,
}


def build_taggers(settings: TagSettings) -> dict[str, Tagger]:
    """Return the taggers the settings name, in their order.

    Raises SettingsError for a name that is not known or given twice.
    """
    taggers: dict[str, Tagger] = {}
    for name in settings.taggers:
        if name not in TAGGERS:
            raise SettingsError(f"no tagger is called {name!r}; known: {', '.join(TAGGERS)}")
        if name in taggers:
            raise SettingsError(f"steps.tag.taggers names {name!r} twice")
        taggers[name] = TAGGERS[name](settings)
    return taggers
