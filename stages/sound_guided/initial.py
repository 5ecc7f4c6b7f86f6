"""Where the sound encoder starts: from ImageNet, or from an earlier training."""

from __future__ import annotations

from pathlib import Path

from avdata import weights
from avdata.errors import SettingsError
from stages.engine.checkpoint import describes_itself, load_weights
from stages.engine.errors import CheckpointError
from stages.nn.published import differences, load_published
from stages.nn.swin import Swin, read_swin
from stages.sound_guided.embedder import MODEL
from stages.sound_guided.sound_encoder import ResNetOfThree, SoundEncoder


def start_from(encoder: SoundEncoder, path: str | Path) -> list[str]:
    """Give the encoder the weights in `path`; return the names in the file that had no use.

    path: a finished train_sound_clip, its folder or weights file (the head is taken too, if it
    fits); or classifiers of ImageNet, of Swin-T in the layouts of timm and transformers and of
    ResNet-18 in torchvision's, by path or their name in the weights table. Raises CheckpointError
    or WeightsError, which say what does not fit, and SettingsError for a tiny encoder.
    """
    file = weights.resolve(path)
    if not file.exists():
        raise CheckpointError(
            f"init_from: there is no {path}; give a path, or a name that `avdata weights` lists"
        )
    if file.is_dir() or describes_itself(file):
        return _start_from_training(encoder, file)
    if isinstance(encoder.features, Swin):
        return read_swin(encoder.features, file)
    if isinstance(encoder.features, ResNetOfThree):
        return load_published(encoder.features.trunk, "torchvision", file)
    raise SettingsError(
        f"init_from: {path} is no training of train_sound_clip, and a tiny encoder starts from "
        "nothing else; take arch swin_t or resnet18 for weights of ImageNet"
    )


def _start_from_training(encoder: SoundEncoder, path: Path) -> list[str]:
    metadata, tensors = load_weights(path)
    if metadata["model"] != MODEL:
        raise CheckpointError(f"{path} holds the model {metadata['model']}, not a {MODEL}")
    own = encoder.state_dict()
    head = {name: value for name, value in own.items() if name.startswith("head.")}
    if all(tensors[name].shape == value.shape for name, value in head.items() if name in tensors):
        head = {}
    tensors |= head  # that of another space has no use
    if problems := differences(own, tensors):
        raise CheckpointError(
            f"the encoder in {path} does not fit: {problems}; give this one its arch and width: "
            f"{metadata['settings']}"
        )
    encoder.load_state_dict(tensors)
    return list(head)
