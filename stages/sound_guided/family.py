"""Robust sound-guided manipulation as a family: what the shared programs know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.evaluation.hearing import Hearing
from stages.family import Family, Opening
from stages.generation.commands import Option, positive, within
from stages.sound_guided.ablations import GRID
from stages.sound_guided.commands import COMMANDS
from stages.sound_guided.paper import OTHERS
from stages.sound_guided.systems import SYSTEMS

if TYPE_CHECKING:
    from stages.evaluation.exhibits import Exhibit, Showing
    from stages.evaluation.hearing import Listener
    from stages.sound_guided.manipulator import Manipulator


def open_painter(opening: Opening) -> Manipulator:
    """Return the parts put together; raises as `load_model` does."""
    from stages.sound_guided.load import load_model

    given: dict[str, Any] = {**opening.parts, **opening.options}
    return load_model(opening.run, **given, device=opening.device)


def open_hearing(opening: Opening, name: str) -> Listener:
    """Return the sound encoder and its texts; raises as `load_model` does."""
    from stages.sound_guided.hearing import open_listener

    return open_listener(opening, name)


def show(showing: Showing) -> list[Exhibit]:
    """Return what the paper shows of codes."""
    from stages.sound_guided.exhibits import code_exhibits

    return code_exhibits(showing)


def _number(name: str, help_text: str, top: float = 1e6) -> Option:
    return Option((name,), {"type": within(0, top), "metavar": "X", "help": help_text})


OPTIONS = (
    Option(
        ("--recipe",),
        {
            "choices": ("stylegan2", "faces", "stylegan3"),
            "default": "stylegan2",
            "help": "how codes are moved, as a whole: the paper's for scenes, its weights for "
            "faces, or that for StyleGAN3",
        },
    ),
    Option(
        ("--ear",),
        {"default": "sound_clip", "help": "kind of sound encoder that --sound-clip names"},
    ),
    Option(("--codes",), {"nargs": "+", "metavar": "FILE", "default": (), "help": "saved starts"}),
    Option(("--move-steps",), {"type": positive, "help": "updates of a code (300)"}),
    _number("--move-lr", "their peak learning rate (0.05)"),
    _number("--reg-weight", "λ_reg: how firmly a code is held (0.002; faces 0.008)"),
    _number("--identity-weight", "λ_ID: how firmly a face is held (0; faces 0.004)"),
    Option(("--identity",), {"metavar": "FILE", "help": "model_ir_se50.pth, which λ_ID needs"}),
    _number("--psi", "truncation of random starts (0.7)"),
    Option(("--starts",), {"type": positive, "help": "random starts, of which the best is moved"}),
    Option(("--moved-layers",), {"type": positive, "help": "only the first so many are moved"}),
    Option(
        ("--mask",),
        {"choices": ("squared", "literal", "even"), "help": "reading of the layer mask (squared)"},
    ),
    Option(
        ("--unchecked-faces",),
        {"action": "store_true", "help": "hold identities even where CLIP sees no face"},
    ),
    Option(
        ("--inverter",),
        {
            "default": "projector",
            "metavar": "FILE",
            "help": "a pSp or e4e encoder that finds pictures again, in the projector's place",
        },
    ),
    Option(
        ("--inverter-kind",),
        {"choices": ("psp", "e4e"), "help": "which it is, where its file does not tell"},
    ),
    Option(
        ("--compare",),
        {
            "default": "pyramid",
            "metavar": "VIEWS",
            "help": "what the projector compares: pyramid (pixels), clip, or a VGG-19's file",
        },
    ),
    Option(
        ("--invert-space",),
        {"choices": ("w", "w+"), "help": "one latent for all layers, or one for each (w+)"},
    ),
    _number("--invert-noise", "search the noise too, held white so firmly (0; as published 1e5)"),
    _number("--invert-lr", "the projector's peak learning rate (0.1)"),
    Option(("--invert-steps",), {"type": positive, "help": "of finding a picture again (1000)"}),
)

FAMILY = Family(
    name="sound_guided",
    title="Robust sound-guided manipulation",
    paper="Lee et al., Robust Sound-Guided Image Manipulation, Neural Networks 2024",
    parts={
        "stylegan2": "train_stylegan2",
        "sound_clip": "train_sound_clip",
        "clip": "train_clip",
    },
    models={"sound_guided_sound_encoder": "stages.sound_guided.sound_encoder:SoundEncoder"},
    abilities=frozenset({"hears", "sees", "moves", "has_latents"}),
    open=open_painter,
    options=OPTIONS,
    systems=SYSTEMS,
    commands=COMMANDS,
    papers=OTHERS,
    exhibits=show,
    hearing=Hearing(part="sound_clip", open=open_hearing),
    ablations=GRID,
)
