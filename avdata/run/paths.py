"""Paths as workers need them: absolute, since they run in folders of their own."""

from __future__ import annotations

import os
from dataclasses import replace

from avdata.config import StepsSettings
from avdata.store import is_remote


def absolute(path: str) -> str:
    """Return a local path made absolute; URLs stay as they are."""
    return path if is_remote(path) else os.path.abspath(path)


def absolute_settings(settings: StepsSettings) -> StepsSettings:
    """Return the settings with every local file that they name made absolute."""
    fetch, yamnet, select = settings.fetch, settings.tag.yamnet, settings.select
    return replace(
        settings,
        fetch=replace(fetch, cookies_file=_file(fetch.cookies_file)),
        tag=replace(settings.tag, yamnet=replace(yamnet, weights=_file(yamnet.weights))),
        select=replace(select, localizer=_file(select.localizer), moments=_file(select.moments)),
    )


def _file(path: str | None) -> str | None:
    """Return the absolute path of a file that is there; a name of something else stays."""
    return absolute(path) if path is not None and os.path.exists(path) else path
