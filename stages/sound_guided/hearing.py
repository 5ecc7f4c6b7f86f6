"""Who names sounds: the sound encoder beside the texts of its space, without a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avdata.errors import SettingsError
from stages.evaluation.hearing import Listener
from stages.generation.opening import painting_device
from stages.sound_guided.embedder import EMBEDDERS
from stages.sound_guided.encoders import EmbeddedSounds
from stages.sound_guided.load import found_parts, parts_sources, space_and_ear

if TYPE_CHECKING:
    from stages.family import Opening


def open_listener(opening: Opening, name: str) -> Listener:
    """Return the sound encoder and the texts beside it; raises as `load_model` does.

    name: of another one in its place, which tells its kind where it is one of EMBEDDERS.
    """
    kind = name if name in EMBEDDERS else str(opening.options.get("ear") or "sound_clip")
    parts = {part: opening.parts.get(part) for part in ("sound_clip", "clip")}
    found = found_parts(opening.run, parts)
    found.pop("stylegan2", None)
    if kind != "sound_clip" and parts["clip"] is None:
        found.pop("clip", None)  # published ones were aligned to the usual model, not to the run's
    if "sound_clip" not in found:
        raise SettingsError(
            "nobody hears: finish `python -m stages.train_sound_clip` in this pipeline's output, "
            "or name one as stages.evaluate.parts.sound_clip"
        )
    eye, ear = space_and_ear(found, kind, painting_device(opening.device))
    assert ear is not None
    return Listener(
        sounds=EmbeddedSounds(ear),
        rate_hz=ear.spec.sample_rate_hz,
        texts=eye,
        sources=parts_sources(found, eye),
    )
