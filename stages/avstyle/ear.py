"""What turns a sound, or what is known of it, into the vector that the generator is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from avdata.audio.spec import AVSTYLE
from stages.avstyle.conditions import ClassVector, Told, read_word_vectors
from stages.avstyle.initial import start_from
from stages.avstyle.settings import Settings
from stages.avstyle.sound_encoder import SoundEncoder
from stages.engine.checkpoint import ModelCard
from stages.models import build

SHOWN = 4  # names of what is left out


def make_ear(
    settings: Settings, known: Told | None, tell: Callable[[str], None]
) -> tuple[str, nn.Module, ModelCard]:
    """Return its name, network and card.

    known: of the clips, in the place of their sound. tell: is told where the network starts from.
    """
    if known is None:
        sizes: dict[str, Any] = {
            "arch": settings.arch,
            "width": settings.sound_width,
            "out_dim": settings.sound_dim,
        }
        card = ModelCard(name="avstyle_sound_encoder", settings=sizes, audio=AVSTYLE)
        encoder = build("avstyle_sound_encoder", **sizes)
        if settings.init_from is not None and isinstance(encoder, SoundEncoder):
            left_out = start_from(encoder, settings.init_from)
            tell(f"the sound encoder starts from {settings.init_from}{_without(left_out)}")
        return "sound_encoder", encoder, card
    words = None
    if settings.word_vectors is not None:
        words = read_word_vectors(settings.word_vectors, known.names)
    sizes = {
        "names": list(known.names),
        "word_dim": None if words is None else words.shape[1],
        "out_dim": settings.sound_dim,
    }
    network = ClassVector(**sizes)
    if words is not None:
        network.words = words
    return "condition", network, ModelCard(name="avstyle_condition", settings=sizes)


def _without(names: Sequence[str]) -> str:
    """Say what had no use; a published checkpoint may hold whole networks beside."""
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f", without {', '.join(names[:SHOWN])}{more}"
