"""Who hears: what a family gives so that its sounds can be named, without a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.family import Opening
    from stages.nn.encoder import Encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A sound encoder, and texts in the space of its sounds.

    sounds: reads sounds at rate_hz. texts: reads texts; None: there are none in this space, so that
    no class can be named by its words. sources: of each part its file and SHA-256.
    """

    sounds: Encoder
    rate_hz: int
    texts: Encoder | None
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """How a family's listener is opened, and which of its parts hears.

    open: of what is given and the listener's name; raises as the family's painter does. In the
    place of the part another network may be given, as a file or a folder that the family reads.
    """

    part: str
    open: Callable[[Opening, str], Listener]
