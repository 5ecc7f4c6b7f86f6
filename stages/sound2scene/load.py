"""Where a model comes from: a run's output, single trainings, or published checkpoints.

model = load_model("runs/demo")
images = model.generate(read_sound("rain.wav", *model.hears), n=8, seed=0)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from avdata.audio.spec import SOUND2SCENE, AudioSpec
from avdata.errors import SettingsError
from stages.engine.checkpoint import PRODUCT_NAME, require_audio
from stages.engine.checkpoint import load_model as load_checkpoint
from stages.engine.errors import CheckpointError
from stages.generation.opening import painting_device, source_of, wrong_kind
from stages.image_encoder.frozen import load_image_encoder
from stages.image_encoder.space import FeatureSpace, require_same_encoder, warn_of_other_views
from stages.models import build
from stages.nn.frontend import Frontend
from stages.nn.published import load_published
from stages.sound2scene.audio_encoder import AudioEncoder
from stages.sound2scene.icgan import Generator
from stages.sound2scene.published_icgan import load_generator
from stages.sound2scene.scene import PictureView, Sound2Scene

STAGES = {
    "generator": "train_icgan",
    "audio_encoder": "train_sound2scene",
    "image_encoder": "train_image_encoder",
}
"""Which trainer makes which part."""

SAME_VIEW = (
    "to have them alike, give stages.train_icgan.encoder_view_px and encoder_input_px the values "
    "of stages.train_sound2scene.data.image_size_px and input_px, and train again"
)
"""What to do if its parts are shown pictures in different ways."""


def load_model(
    run: str | Path | None = None,
    *,
    generator: str | Path | None = None,
    audio_encoder: str | Path | None = None,
    image_encoder: str | Path | None = None,
    view_px: int | None = None,
    input_px: int | None = None,
    audio: AudioSpec | None = None,
    device: str = "auto",
) -> Sound2Scene:
    """Return the parts of a run's output, or those given in their place.

    run: output folder of a pipeline, for what its trainings have finished. A part is a training's
    folder, a weights file (.safetensors), or a published checkpoint in torch's format. view_px,
    input_px: how pictures reach the image encoder; without them as the generator was trained, where
    its file or folder tells; view_px alone: seen as squashed. audio: demand this front-end.

    Raises CheckpointError or WeightsError for a file that is missing or holds another model and for
    parts of different image encoders, where their files tell, and SettingsError for parts that do
    not fit together otherwise. Warns if the parts saw pictures in different ways.
    """
    given = {
        "generator": generator,
        "audio_encoder": audio_encoder,
        "image_encoder": image_encoder,
    }
    paths = {part: Path(path) for part, path in given.items() if path is not None}
    if run is not None:
        for part, stage in STAGES.items():
            folder = Path(run) / "stages" / stage
            if part == "generator" or (folder / PRODUCT_NAME).is_file():
                paths.setdefault(part, folder)
    if "generator" not in paths:
        raise SettingsError("nothing to generate with: give --run FOLDER or --generator FILE")

    where = painting_device(device)
    spaces: dict[str, FeatureSpace | None] = {}  # None: an older or a published file
    network, spaces["generator"] = _generator(paths["generator"])
    network.to(where).requires_grad_(False)
    view = _view_of(paths["generator"], spaces["generator"])
    if view_px is not None:
        view = PictureView(view_px=view_px, input_px=input_px)
    elif input_px is not None:
        view = replace(view, input_px=input_px)
    ear, frontend, eye = None, None, None
    if path := paths.get("audio_encoder"):
        ear, spec, spaces["audio_encoder"] = _audio_encoder(path, audio)
        frontend = Frontend(spec).to(where)
    if path := paths.get("image_encoder"):
        eye = load_image_encoder(path, input_px=view.input_px)
        spaces["image_encoder"] = FeatureSpace.of(eye, view.view_px)
    _require_one_space(paths, spaces, chosen_view=(view_px or input_px) is not None)
    if ear is not None:
        _require_dim(ear.out_dim, network, paths["audio_encoder"])
        ear.to(where).requires_grad_(False)
    if eye is not None:
        _require_dim(eye.dim, network, paths["image_encoder"])
        eye.network.to(where)
    return Sound2Scene(
        generator=network,
        audio_encoder=ear,
        frontend=frontend,
        image_encoder=eye,
        view=view,
        device=where,
        sources={part: source_of(path) for part, path in paths.items()},
    )


def _generator(path: Path) -> tuple[Generator, FeatureSpace | None]:
    if not _ours(path):
        return load_generator(path), None
    network, metadata = load_checkpoint(path)
    if not isinstance(network, Generator):
        raise wrong_kind(path, metadata["model"], "generator", STAGES["generator"])
    return network, FeatureSpace.read(metadata, str(path))


def _audio_encoder(
    path: Path, wanted: AudioSpec | None
) -> tuple[AudioEncoder, AudioSpec, FeatureSpace | None]:
    """Return network, front-end and feature space; a published one hears as the paper says."""
    if _ours(path):
        network, metadata = load_checkpoint(path)
    else:
        network = build("audio_encoder").eval()
        load_published(network, "sound2scene", path)
        metadata = {"model": "audio_encoder", "audio": json.loads(SOUND2SCENE.to_json())}
    if not isinstance(network, AudioEncoder):
        raise wrong_kind(path, metadata["model"], "audio_encoder", STAGES["audio_encoder"])
    if metadata["audio"] is None:
        raise CheckpointError(
            f"{path} does not say through which front-end it hears; take what train_sound2scene "
            "wrote"
        )
    if wanted is not None:
        require_audio(metadata, wanted, str(path))
    spec = AudioSpec.from_json(json.dumps(metadata["audio"]))
    return network, spec, FeatureSpace.read(metadata, str(path))


def _ours(path: Path) -> bool:
    """Tell our format from the published ones, which are in torch's."""
    return path.is_dir() or path.suffix == ".safetensors" or not path.exists()


def _view_of(generator: Path, space: FeatureSpace | None) -> PictureView:
    """Return how the generator's training showed pictures to the encoder; else the paper's."""
    if space is not None:
        return PictureView(view_px=space.view_px, input_px=space.input_px)
    settings = generator / "settings.yaml"  # beside files that do not say it themselves
    if not settings.is_file():
        return PictureView()
    tree = yaml.safe_load(settings.read_text(encoding="utf-8"))
    return PictureView(view_px=tree["encoder_view_px"], input_px=tree["encoder_input_px"])


def _require_one_space(
    paths: Mapping[str, Path], spaces: Mapping[str, FeatureSpace | None], *, chosen_view: bool
) -> None:
    """Refuse parts of different image encoders; warn of parts that saw pictures differently.

    chosen_view: the image encoder's view is what the caller wants, whatever the others saw.
    """
    known = {part: space for part, space in spaces.items() if space is not None}
    require_same_encoder(
        {str(paths[part]): space for part, space in known.items()},
        "give --generator, --audio-encoder and --image-encoder that belong together, or train "
        "again, with --fresh, what is older than the image encoder",
    )
    if chosen_view:
        known.pop("image_encoder", None)
    warn_of_other_views({str(paths[part]): space for part, space in known.items()}, SAME_VIEW)


def _require_dim(dim: int, generator: Generator, path: Path) -> None:
    if dim != generator.feature_dim:
        raise SettingsError(
            f"{path} gives features of {dim} numbers, the generator was trained on "
            f"{generator.feature_dim}: they belong to different image encoders"
        )
