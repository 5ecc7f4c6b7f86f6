"""The data operations, in the order in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avdata.config import StepsSettings

if TYPE_CHECKING:
    from avdata.steps.base import Step

PART_STEPS = ("fetch", "trim", "tag", "select")
"""The steps that work part by part; shard then packs what all parts gave."""


def make_step(name: str, settings: StepsSettings) -> Step:
    """Build one of the PART_STEPS from its section of the settings."""
    if name == "fetch":
        from avdata.steps.fetch import FetchStep

        return FetchStep(settings.fetch)
    if name == "trim":
        from avdata.steps.trim import TrimStep

        return TrimStep(settings.trim)
    if name == "tag":
        from avdata.steps.tag import TagStep

        return TagStep(settings.tag)
    from avdata.steps.select import SelectStep

    return SelectStep(settings.select)
