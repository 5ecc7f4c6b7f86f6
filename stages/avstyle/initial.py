"""Where the sound encoder starts: from another network that hears, or an earlier training.

left_out = start_from(encoder, "Wav2CLIP.pt")

The trunk alone is taken, strictly: whatever the head was for, it is not what the generator is
told. The others saw sound through other front-ends (Sound2Scene: log density of 10 s; Wav2CLIP: log
power, hop 353; SeLaVi: log filter banks at 48 kHz), and all pad their first convolution by 3, where
this encoder has 1: no weight depends on either, and the training adapts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from avdata.errors import WeightsError
from stages.avstyle.sound_encoder import SoundEncoder
from stages.engine.checkpoint import load_weights, weights_file
from stages.engine.errors import CheckpointError
from stages.nn.published import differences, load_published, read_tensors
from stages.nn.resnet import ARCHS

PUBLISHED = {
    "audnet.": "sound2scene_trunk",
    "audio_encoder.": "wav2clip_trunk",
    "audio_network.": "selavi_trunk",
}
"""What names of parameters begin with → the layout in `stages.nn.published`."""

OWN = "avstyle_sound_encoder"
TRAINED = (OWN, "audio_encoder")
"""Models of this project that have such a trunk: this family's, and Sound2Scene's."""


def start_from(encoder: SoundEncoder, path: str | Path) -> list[str]:
    """Give the encoder the weights in `path`; return the names in the file that had no use.

    path: a published checkpoint of Sound2Scene, Wav2CLIP or SeLaVi; or a finished training of
    train_avstyle (its head is taken too, if it fits) or train_sound2scene, its folder or its
    .safetensors. Raises WeightsError or CheckpointError, which say what does not fit.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return _start_from_training(encoder, path)
    names = [name.removeprefix("module.") for name in read_tensors(path)]
    for prefix, layout in PUBLISHED.items():
        heard = [name for name in names if name.startswith(prefix)]
        if heard:
            _require_depths(encoder, heard, path)
            return load_published(encoder.trunk, layout, path)
    shown = ", ".join(names[:3])
    raise WeightsError(
        f"{path} is no published checkpoint of Sound2Scene (audnet.*), Wav2CLIP (audio_encoder.*) "
        f"or SeLaVi (audio_network.*); its names begin with {shown}"
    )


def _start_from_training(encoder: SoundEncoder, path: Path) -> list[str]:
    file = weights_file(path, "sound_encoder")
    metadata, weights = load_weights(file)
    if metadata["model"] not in TRAINED:
        raise CheckpointError(
            f"{file} holds the model {metadata['model']}; the sound encoder starts from "
            f"{' or '.join(TRAINED)}"
        )
    _require_depths(encoder, weights, file)
    trunk = {k.removeprefix("trunk."): v for k, v in weights.items() if k.startswith("trunk.")}
    if problems := differences(encoder.trunk.state_dict(), trunk):
        raise CheckpointError(
            f"the trunk in {file} does not fit: {problems}; give the encoder its arch and width: "
            f"{metadata['settings']}"
        )
    encoder.trunk.load_state_dict(trunk)
    head = {k.removeprefix("head."): v for k, v in weights.items() if k.startswith("head.")}
    if metadata["model"] == OWN and not differences(encoder.head.state_dict(), head):
        encoder.head.load_state_dict(head)
        return []
    return [name for name in weights if not name.startswith("trunk.")]


def _require_depths(encoder: SoundEncoder, names: Iterable[str], path: Path) -> None:
    """Raise WeightsError if the trunk there has another number of blocks: another ResNet."""
    found, own = _depths(names), _depths(encoder.trunk.state_dict())
    if found and found != own:
        fits = [name for name, arch in ARCHS.items() if list(arch.depths) == found]
        raise WeightsError(
            f"the trunk in {path} has {_said(found)} blocks in its layers, this sound encoder has "
            f"{_said(own)}, so tensors are missing or without a place; as many as the file has "
            f"{' and '.join(fits) or 'no arch'} (SeLaVi publishes a resnet9)"
        )


def _depths(names: Iterable[str]) -> list[int]:
    """Return the number of blocks in each layer, of names that are all of one network."""
    found = [
        match for name in names if (match := re.search(r"(?:^|\.)layer(\d)\.(\d+)\.conv1\.", name))
    ]
    layers = sorted({int(match[1]) for match in found})
    return [len({match[2] for match in found if int(match[1]) == layer}) for layer in layers]


def _said(depths: list[int]) -> str:
    return ", ".join(map(str, depths))
