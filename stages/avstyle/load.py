"""Where a restyler comes from: a run's output, a training's folder, or single files.

model = load_model("runs/into_the_wild")
image = model.restyle(read_picture("view.jpg"), read_sound("rain.wav", *model.hears))
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError
from stages.avstyle.conditions import ClassVector
from stages.avstyle.generator import SIDE_STEP_PX, Generator
from stages.avstyle.restyler import Restyler
from stages.avstyle.sound_encoder import SoundEncoder
from stages.engine.checkpoint import load_model as load_checkpoint
from stages.engine.checkpoint import require_audio
from stages.engine.errors import CheckpointError
from stages.generation.opening import painting_device, source_of, wrong_kind
from stages.nn.frontend import Frontend

TRAINER = "train_avstyle"
GENERATOR, EARS = "generator", ("sound_encoder", "condition")
"""Products of the training; what tells the generator of sounds is one of two."""
PAPER_PX = 256


def load_model(
    run: str | Path | None = None,
    *,
    style_generator: str | Path | None = None,
    sound_encoder: str | Path | None = None,
    size_px: int | None = None,
    audio: AudioSpec | None = None,
    device: str = "auto",
) -> Restyler:
    """Return the parts of a run's output, or those given in their place.

    run: output folder of a pipeline, for what its training has finished. A part is a training's
    folder or a weights file; of a folder that is given for the generator, the sound encoder is
    taken too, or what a baseline has in its place. size_px: shorter side of the pictures; without
    it that of the training, where the folder tells, else the paper's 256. audio: demand this
    front-end.

    Raises CheckpointError for a file that is missing or holds another model, and SettingsError for
    parts that do not fit together.
    """
    paths = _paths(run, style_generator, sound_encoder)
    where = painting_device(device)
    generator, sound_dim = _generator(paths["style_generator"])
    product = _ear_product(paths["sound_encoder"])
    ear, spec = _ear(paths["sound_encoder"], product, audio)
    if ear.out_dim != sound_dim:
        raise SettingsError(
            f"{paths['sound_encoder']} gives vectors of {ear.out_dim} numbers, the generator was "
            f"trained on {sound_dim}: they belong to different trainings"
        )
    for network in (generator, ear):
        network.to(where).requires_grad_(False)
    return Restyler(
        generator=generator,
        ear=ear,
        frontend=None if spec is None else Frontend(spec).to(where),
        resolution_px=_side(size_px, paths["style_generator"]),
        device=where,
        sources={
            "style_generator": source_of(paths["style_generator"], GENERATOR),
            "sound_encoder": source_of(paths["sound_encoder"], product),
        },
    )


def _paths(
    run: str | Path | None, style_generator: str | Path | None, sound_encoder: str | Path | None
) -> dict[str, Path]:
    trained = None if run is None else Path(run) / "stages" / TRAINER
    generator = style_generator or trained
    if generator is None:
        raise SettingsError("nothing to restyle with: give --run FOLDER or --style-generator FILE")
    beside = generator if Path(generator).is_dir() else trained
    ear = sound_encoder or beside
    if ear is None:
        raise SettingsError(
            f"{generator} is one file: give --sound-encoder FILE too, or the training's folder"
        )
    return {"style_generator": Path(generator), "sound_encoder": Path(ear)}


def _generator(path: Path) -> tuple[Generator, int]:
    """Return the network and the length of the vector that it is told."""
    network, metadata = load_checkpoint(path, product=GENERATOR)
    if not isinstance(network, Generator):
        raise wrong_kind(path, metadata["model"], "style_generator", TRAINER)
    if metadata["settings"].get("enters") == "none":
        raise CheckpointError(f"{path} is a generator that hears nothing (enters: none)")
    return network, int(metadata["settings"].get("sound_dim", 256))


def _ear_product(path: Path) -> str:
    """Return which product of a training's folder tells of sounds."""
    there = (name for name in EARS if (path / f"{name}.safetensors").is_file())
    return next(there, EARS[0])


def _ear(
    path: Path, product: str, wanted: AudioSpec | None
) -> tuple[SoundEncoder | ClassVector, AudioSpec | None]:
    network, metadata = load_checkpoint(path, product=product)
    if isinstance(network, ClassVector):
        return network, None
    if not isinstance(network, SoundEncoder):
        raise wrong_kind(path, metadata["model"], "sound_encoder", TRAINER)
    if metadata["audio"] is None:
        raise CheckpointError(
            f"{path} does not say through which front-end it hears; take what {TRAINER} wrote"
        )
    if wanted is not None:
        require_audio(metadata, wanted, str(path))
    return network, AudioSpec.from_json(json.dumps(metadata["audio"]))


def _side(size_px: int | None, generator: Path) -> int:
    """Return the side of pictures: as asked, as trained, or the paper's."""
    settings = (generator if generator.is_dir() else generator.parent) / "settings.yaml"
    if size_px is None and settings.is_file():
        tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
        size_px = int(tree["resolution_px"])
    side = PAPER_PX if size_px is None else size_px
    if side % SIDE_STEP_PX or side < SIDE_STEP_PX:
        raise SettingsError(f"--size-px must be a multiple of {SIDE_STEP_PX}, got {side}")
    return side
