"""Where a manipulator comes from: a run's output, trainings' folders, or published files.

model = load_model("runs/robust")
images = model.paint([Ask(key="start", sound=rain)], seed=0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avdata import weights
from avdata.errors import SettingsError, WeightsError, nearest
from stages.engine.checkpoint import PRODUCT_NAME, describes_itself
from stages.engine.checkpoint import load_model as load_checkpoint
from stages.engine.fabric import channels_last
from stages.generation.opening import painting_device, source_of, wrong_kind
from stages.nn.ir_se import load_identity
from stages.sound_guided.codes import read_codes, spread_of
from stages.sound_guided.embedder import SoundEmbedder, load_embedder, require_space
from stages.sound_guided.inversion import Inverter, Space
from stages.sound_guided.inverters import PROJECTOR, PYRAMID, encoder_of, projector_of
from stages.sound_guided.latent_optimisation import RECIPES, Search
from stages.sound_guided.manipulator import Manipulator, at_once_at
from stages.stylegan2.encoders import Kind
from stages.stylegan2.generator import Generator
from stages.stylegan3.generator import Generator as StyleGan3
from stages.stylegan3.published import load_generator
from stages.text_image.model import DEFAULT, TextImage

if TYPE_CHECKING:
    import torch

TRAINERS = {
    "stylegan2": "train_stylegan2",
    "sound_clip": "train_sound_clip",
    "clip": "train_clip",
}
"""Which trainer makes which part."""


def load_model(
    run: str | Path | None = None,
    *,
    stylegan2: str | Path | None = None,
    sound_clip: str | Path | None = None,
    clip: str | Path | None = None,
    identity: str | Path | None = None,
    ear: str = "sound_clip",
    recipe: str = "stylegan2",
    codes: Sequence[str | Path] = (),
    inverter: str | Path = PROJECTOR,
    inverter_kind: Kind | None = None,
    compare: str | Path = PYRAMID,
    invert_steps: int | None = None,
    invert_lr: float | None = None,
    invert_space: Space | None = None,
    invert_noise: float | None = None,
    move_steps: int | None = None,
    move_lr: float | None = None,
    moved_layers: int | None = None,
    unchecked_faces: bool = False,
    device: str = "auto",
    **changes: Any,
) -> Manipulator:
    """Return the parts of a run's output, or those given in their place.

    stylegan2: a training's folder or a published generator, StyleGAN3 too (.pkl, .pt,
    .safetensors), by file or name. sound_clip: a training's folder, or a file of the kind `ear`
    says (embedder.py); without one, texts guide alone. clip: a text-image model, by name or folder;
    else the run's, else that of the sounds. identity: ArcFace's IR-SE-50, which λ_ID needs. recipe,
    changes: a search of RECIPES, and its fields that differ; None changes nothing. codes: files of
    saved codes to start from. inverter: "projector", or a pSp or e4e encoder's file. compare: what
    the projector compares, "pyramid" (pixels), "clip" beside it, or the layers of a VGG-19, by file
    or name. unchecked_faces: hold identities whether or not there is a face.

    Raises CheckpointError or WeightsError for a file that is missing or holds another model, and
    SettingsError for parts that do not fit together.
    """
    search = search_of(recipe, steps=move_steps, lr=move_lr, layers=moved_layers, **changes)
    if search.identity_weight and identity is None:
        raise SettingsError(
            f"identity_weight is {search.identity_weight:g}, and no network knows faces: give "
            "--identity model_ir_se50.pth, or set --identity-weight 0"
        )
    found = found_parts(run, {"stylegan2": stylegan2, "sound_clip": sound_clip, "clip": clip})
    if "stylegan2" not in found:
        raise SettingsError(
            "nothing to move pictures in: give --run FOLDER, whose `python -m "
            "stages.train_stylegan2` has finished, or --stylegan2 FILE"
        )
    where = painting_device(device)
    generator = _generator(Path(found["stylegan2"]))
    generator.to(where).requires_grad_(False)
    channels_last(generator)
    eye, heard = space_and_ear(found, ear, where)
    spread = spread_of(generator, where)
    if str(inverter) == PROJECTOR:
        asked = {"steps": invert_steps, "lr": invert_lr, "space": invert_space}
        asked["noise_weight"] = invert_noise
        settings = {name: value for name, value in asked.items() if value is not None}
        found_inverter: Inverter = projector_of(generator, spread, eye, compare, where, settings)
    else:
        found_inverter = encoder_of(generator, inverter, inverter_kind, where)
    return Manipulator(
        generator=generator,
        space=eye,
        embedder=heard,
        search=search,
        spread=spread,
        inverter=found_inverter,
        at_once=at_once_at(generator.resolution),
        check_faces=not unchecked_faces,
        faces=None if identity is None else load_identity(identity).to(where),
        codes=read_codes(codes, generator) if codes else None,
        device=where,
        sources=parts_sources(found if identity is None else found | {"identity": identity}, eye),
    )


def space_and_ear(
    found: Mapping[str, str | Path], ear: str, where: torch.device
) -> tuple[TextImage, SoundEmbedder | None]:
    """Return the text-image model and what hears beside it; None: no sound encoder is there.

    found: where parts are. ear: kind of the sound encoder. Raises as `load_model` does.
    """
    heard = load_embedder(found["sound_clip"], ear, device=where) if "sound_clip" in found else None
    try:
        eye = TextImage.load(found.get("clip") or _space_of(heard), device=where, too_long="error")
    except WeightsError as error:
        if "clip" in found:
            raise
        raise WeightsError(
            f"{error}. It stands in for the part clip, which nobody named: finish `python -m "
            "stages.train_clip` in this run, or give --clip NAME or FOLDER"
        ) from None
    if heard is not None:
        require_space(heard, eye, "sound-guided manipulation")
    return eye, heard


def search_of(recipe: str, **changes: Any) -> Search:
    """Return a search of RECIPES with some fields changed; those that are None are left.

    Raises SettingsError for a recipe that is not known, and for values out of bounds.
    """
    if recipe not in RECIPES:
        raise SettingsError(f"no recipe is called {recipe!r}; {nearest(recipe, RECIPES)}")
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return replace(RECIPES[recipe], **given)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the search: {error}") from None


def found_parts(
    run: str | Path | None, given: Mapping[str, str | Path | None]
) -> dict[str, str | Path]:
    """Return where each part is: as given, or the run's, if its training has finished there."""
    found = {part: path for part, path in given.items() if path is not None}
    if run is None:
        return found
    for part, trainer in TRAINERS.items():
        folder = Path(run) / "stages" / trainer
        if part == "stylegan2" or (folder / PRODUCT_NAME).is_file():
            found.setdefault(part, folder)
    return found


def _generator(path: Path) -> Generator | StyleGan3:
    if _ours(path):
        network, metadata = load_checkpoint(path)
        if not isinstance(network, Generator):
            raise wrong_kind(path, metadata["model"], "stylegan2", TRAINERS["stylegan2"])
        return network
    return load_generator(weights.resolve(path))


def _ours(path: Path) -> bool:
    """Tell what a training here has written, or should have, from a published file."""
    if path.is_file():
        return describes_itself(path)  # a converted file says nothing of itself
    return path.is_dir() or not (path.exists() or str(path) in weights.entries())


def _space_of(heard: SoundEmbedder | None) -> str:
    """Return the name of the text-image model that sounds were aligned to; else the usual one."""
    return getattr(heard, "space_name", None) or DEFAULT


def parts_sources(found: dict[str, str | Path], eye: TextImage) -> dict[str, dict[str, str]]:
    """Return of each part its file and SHA-256."""
    sources = {"clip": {"file": eye.name, "sha256": str(eye.fingerprint()["sha256"])}}
    for part, path in found.items():
        if part == "clip":
            continue
        sources[part] = source_of(weights.resolve(path))
    return sources
