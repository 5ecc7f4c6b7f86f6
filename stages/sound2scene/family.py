"""Sound2Scene as a family: what the shared programs know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.family import Family, Opening
from stages.generation.commands import Option, positive
from stages.sound2scene.ablations import GRID
from stages.sound2scene.commands import COMMANDS
from stages.sound2scene.paper import BASELINES, OTHERS
from stages.sound2scene.systems import SYSTEMS, spaces

if TYPE_CHECKING:
    from stages.sound2scene.scene import Sound2Scene


def open_painter(opening: Opening) -> Sound2Scene:
    """Return the parts put together; raises as `load_model` does."""
    from stages.sound2scene.load import load_model

    given: dict[str, Any] = {**opening.parts, **opening.options}
    return load_model(opening.run, **given, device=opening.device)


FAMILY = Family(
    name="sound2scene",
    title="Sound2Scene",
    paper="Sung-Bin et al., Sound to Visual Scene Generation by Audio-to-Visual Latent Alignment, "
    "CVPR 2023",
    parts={
        "generator": "train_icgan",
        "audio_encoder": "train_sound2scene",
        "image_encoder": "train_image_encoder",
    },
    models={
        "audio_encoder": "stages.sound2scene.audio_encoder:AudioEncoder",
        "icgan_generator": "stages.sound2scene.icgan:Generator",
        "icgan_discriminator": "stages.sound2scene.icgan:Discriminator",
    },
    abilities=frozenset({"hears", "sees", "has_latents", "inverts", "explains"}),
    open=open_painter,
    options=(
        Option(
            ("--view-px",),
            {"type": positive, "help": "squash pictures to this side for the image encoder"},
        ),
        Option(
            ("--input-px",),
            {"type": positive, "help": "the side it then sees; with --view-px the same by default"},
        ),
    ),
    systems=SYSTEMS,
    commands=COMMANDS,
    benchmark=BASELINES,
    papers=OTHERS,
    spaces=spaces,
    ablations=GRID,
)
