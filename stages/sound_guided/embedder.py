"""What hears: anything that maps sound into a space that it shares with pictures.

    ear = load_embedder("runs/x/stages/train_sound_clip")        # of this project
    ear = load_embedder("Wav2CLIP.pt", kind="wav2clip")          # published
    require_space(ear, text_image, "the ear of this manipulation")
    direction = ear.embed(waves)                                 # [B, ear.dim], of length 1

Another one is a function from a file to a `SoundEmbedder` and a line in EMBEDDERS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata import weights
from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError, nearest
from avdata.strict import to_tree
from stages.engine.checkpoint import load_model
from stages.engine.errors import CheckpointError
from stages.image_encoder.frozen import weights_sha256
from stages.nn.frontend import Frontend

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "sound_guided_sound_encoder"
SHOWN_DIGITS = 16  # of a digest, in messages


@runtime_checkable
class SoundEmbedder(Protocol):
    """Hears sounds as unit vectors of a space in which pictures, and maybe texts, lie too.

    name: for people. spec: rate and length of what it hears, and its front-end if that is one of
    this project. dim: of its vectors. space: `fingerprint()` of the text-image model it was aligned
    to; None if it does not say, as published ones do not. space_name: of that model, for people.
    """

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> AudioSpec: ...
    @property
    def dim(self) -> int: ...
    @property
    def space(self) -> Mapping[str, Any] | None: ...
    @property
    def space_name(self) -> str | None: ...

    def fingerprint(self) -> dict[str, Any]:
        """Return plain values on which the vectors depend."""

    def embed(self, waves: Tensor) -> Tensor:
        """Return float32 [B, dim] of length 1, without gradients, of mono waves float32 [B, n].

        They lie in [-1, 1] at the rate of `spec`, and are cut or filled up to its n_samples.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEmbedder:
    """A network [B, *spec.shape] → [B, dim] behind a front-end: a `SoundEmbedder`."""

    name: str
    network: nn.Module
    frontend: Frontend
    dim: int
    space: Mapping[str, Any] | None = None
    space_name: str | None = None

    @property
    def spec(self) -> AudioSpec:
        return self.frontend.spec

    def fingerprint(self) -> dict[str, Any]:
        audio, network = to_tree(self.spec), weights_sha256(self.network)
        return {"extractor": self.name, "weights": network, "audio": audio}

    @torch.no_grad()
    def embed(self, waves: Tensor) -> Tensor:
        device = next(self.network.parameters()).device
        heard: Tensor = self.network(self.frontend(waves.to(device)))
        return F.normalize(heard.float(), dim=-1)


def network_embedder(
    name: str,
    network: nn.Module,
    spec: AudioSpec,
    *,
    dim: int,
    device: torch.device | str = "cpu",
    space: Mapping[str, Any] | None = None,
    space_name: str | None = None,
) -> NetworkEmbedder:
    """Return the embedder of a frozen network, on the device."""
    network = network.eval().requires_grad_(False).to(device)
    return NetworkEmbedder(
        name=name,
        network=network,
        frontend=Frontend(spec).to(device),
        dim=dim,
        space=space,
        space_name=space_name,
    )


def open_sound_clip(path: Path, device: torch.device | str) -> SoundEmbedder:
    """Return the sound encoder of a finished train_sound_clip, its folder or weights file."""
    network, metadata = load_model(path)
    features = metadata.get("features") or {}
    space, name = features.get("space"), features.get("name")
    if metadata["model"] != MODEL or metadata["audio"] is None:
        raise CheckpointError(
            f"{path} holds the model {metadata['model']}, not a {MODEL} with its front-end; name "
            "the folder of a finished train_sound_clip"
        )
    if not isinstance(space, dict) or not isinstance(name, str):
        raise CheckpointError(f"{path} does not say to which text-image model it was aligned")
    return network_embedder(
        "sound_clip",
        network,
        AudioSpec.from_json(json.dumps(metadata["audio"])),
        dim=int(metadata["settings"]["dim"]),
        device=device,
        space=space,
        space_name=name,
    )


EMBEDDERS: dict[str, str] = {
    "sound_clip": "stages.sound_guided.embedder:open_sound_clip",
    "wav2clip": "stages.sound_guided.published:open_wav2clip",
    "soundini": "stages.sound_guided.published:open_soundini",
    "lee2022": "stages.sound_guided.published:open_lee2022",
}
"""Kind → `module:function` of (path, device), imported when it is asked for."""


def load_embedder(
    path: str | Path, kind: str = "sound_clip", *, device: torch.device | str = "cpu"
) -> SoundEmbedder:
    """Return what hears, from a training's folder, a file, or a name of the weights table.

    kind: one of EMBEDDERS. Raises SettingsError for another kind, CheckpointError or WeightsError
    for a file that does not hold one.
    """
    if kind not in EMBEDDERS:
        raise SettingsError(f"no kind of ear is called {kind!r}; {nearest(kind, EMBEDDERS)}")
    module, function = EMBEDDERS[kind].split(":")
    opened: Callable[[Path, torch.device | str], SoundEmbedder]
    opened = getattr(import_module(module), function)
    return opened(weights.resolve(path), device)


class Space(Protocol):
    """A text-image model, as `stages.text_image` has it."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...

    def fingerprint(self) -> dict[str, Any]: ...


def require_space(ear: SoundEmbedder, eye: Space, where: str) -> None:
    """Raise CheckpointError unless what is heard and what is seen lie in one space.

    where: what needs both, for the message. Of an ear that names no space, the width alone tells.
    """
    if ear.dim != eye.dim:
        raise CheckpointError(
            f"{where}: the sound encoder {ear.name} gives {ear.dim} features, the text-image model "
            f"{eye.name} has {eye.dim}; name the model that it was aligned to{_named(ear)}"
        )
    own = to_tree(eye.fingerprint())
    if ear.space is not None and dict(ear.space) != own:
        raise CheckpointError(
            f"{where}: the sound encoder {ear.name} was aligned to another text-image model"
            f"{_named(ear)} ({_digits(ear.space)}) than {eye.name} ({_digits(own)}), so their "
            "vectors mean nothing to each other; name that model, or train the encoder again"
        )


def _named(ear: SoundEmbedder) -> str:
    return f", {ear.space_name}" if ear.space_name else ""


def _digits(space: Mapping[str, Any]) -> str:
    return str(space.get("sha256", "without a digest"))[:SHOWN_DIGITS]
