"""How the frames of a clip are scored against its sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avdata.config import SelectSettings

if TYPE_CHECKING:
    from avdata.scorers.base import Scorer

MEASURED_BY = {
    "av_sync": "av_sync",
    "av_sync_max": "av_sync",
    "c_max": "localizer",
    "moment_offset_s": "moments",
}
"""Measures that a scorer adds to a clip, and the scorer that does."""


def make_scorer(settings: SelectSettings) -> Scorer:
    """Build the scorer that the settings name; SettingsError if it lacks what it needs."""
    if settings.scorer == "av_sync":
        from avdata.scorers.av_sync import AvSync

        return AvSync()
    if settings.scorer == "localizer":
        from avdata.scorers.localizer import Localizer

        return Localizer(settings.localizer)
    if settings.scorer == "moments":
        from avdata.scorers.moments import Moments

        return Moments(settings.moments)
    if settings.scorer == "none":
        from avdata.scorers.sound_alone import SoundAlone

        return SoundAlone()
    from avdata.scorers.mid_random import MidFrame, RandomFrame

    return RandomFrame() if settings.scorer == "random" else MidFrame()
