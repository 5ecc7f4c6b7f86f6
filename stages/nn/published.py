"""Published checkpoints → our networks: their names of parameters, read strictly.

load_published(build("image_encoder"), "swav", "swav_800ep_pretrain.pth.tar")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avdata.errors import SettingsError, WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training code keeps them
SHOWN = 8  # lines of a mismatch that are printed


@dataclass(frozen=True, slots=True)
class Layout:
    """How a published checkpoint names its parameters.

    rename: pattern → replacement, the first that matches a name from its start applies.
    ignore: pattern of names that the network has no use for.
    """

    rename: tuple[tuple[str, str], ...]
    ignore: str | None = None


TRUNK = r"(?=(?:conv1|bn1|layer[1-4])\.)"

VGG19_TORCHVISION = {
    **{0: "conv1_1", 2: "conv1_2", 5: "conv2_1", 7: "conv2_2"},
    **{10: "conv3_1", 12: "conv3_2", 14: "conv3_3", 16: "conv3_4", 19: "conv4_1"},
}
VGG19_NORMALISED = {
    **{0: "colour", 2: "conv1_1", 5: "conv1_2", 9: "conv2_1", 12: "conv2_2"},
    **{16: "conv3_1", 19: "conv3_2", 22: "conv3_3", 25: "conv3_4", 29: "conv4_1"},
}


def _numbered(before: str, names: Mapping[int, str]) -> tuple[tuple[str, str], ...]:
    """Return the renaming of layers that are numbered in a list."""
    return tuple((rf"{re.escape(before)}{n}\.", f"{name}.") for n, name in names.items())


LAYOUTS: dict[str, Layout] = {
    # Sound2Scene and Sound2Vision, AudioEncoder: `audnet.conv1.weight` … `audnet.fc.weight`, and
    # for the diffusion model `audnet.fc2.weight`.
    "sound2scene": Layout(
        (
            (r"audnet\.fc\.", "head.0."),
            (r"audnet\.fc2\.", "head.2."),
            (rf"audnet\.{TRUNK}", "trunk."),
        )
    ),
    # SwAV, SwAV: `module.conv1.weight` …, `module.projection_head.0.weight` …,
    # `module.prototypes.weight`.
    "swav": Layout(((TRUNK, "encoder.trunk."),)),
    # SwAV's trunk alone, ImageEncoder.
    "swav_trunk": Layout(((TRUNK, "trunk."),), ignore=r"projection_head\.|prototypes"),
    # torchvision's VGG-19, Vgg19: `features.0.weight` …; what lies above relu4_1 is left.
    "vgg19_torchvision": Layout(
        _numbered("features.", VGG19_TORCHVISION),
        ignore=r"features\.(?:2[1-9]|3\d)\.|classifier\.",
    ),
    # The normalised VGG-19 of style transfer, as a list of layers, paddings among them: `0.weight`.
    "vgg19_normalised": Layout(
        _numbered("", VGG19_NORMALISED), ignore=r"(?:32|35|38|42|45|48|51)\."
    ),
    # ImageNet classifiers in torchvision's naming, ResNet: what is left without `fc`.
    "torchvision": Layout((), ignore=r"fc\."),
    # ArcFace's IR-SE-50, IrSe50: `input_layer.0.weight`, `body.0.res_layer.1.weight` …
    "ir_se50": Layout(()),
    # The trunks alone of networks that hear, ResNet: `audnet.conv1.weight`; Wav2CLIP's
    # `audio_encoder.conv1.weight` beside its heads and the window of its spectrogram; SeLaVi's
    # `audio_network.base.conv1.weight` beside the video network and all heads.
    "sound2scene_trunk": Layout(((rf"audnet\.{TRUNK}", ""),), ignore=r"audnet\.fc2?\."),
    "wav2clip_trunk": Layout(
        ((rf"audio_encoder\.{TRUNK}", ""),), ignore=rf"(?!audio_encoder\.{TRUNK})"
    ),
    # Wav2CLIP with what maps its trunk into CLIP's space, `audio_transform.sequential.0.weight`.
    "wav2clip": Layout(
        (
            (rf"audio_encoder\.{TRUNK}", "trunk."),
            (r"audio_transform\.sequential\.0\.", "head.0."),
            (r"audio_transform\.sequential\.3\.", "head.2."),
        ),
        ignore=rf"(?!audio_encoder\.{TRUNK}|audio_transform\.)",
    ),
    "selavi_trunk": Layout(
        ((rf"audio_network\.base\.{TRUNK}", ""),), ignore=rf"(?!audio_network\.base\.{TRUNK})"
    ),
}
"""Name → layout. A `module.` prefix, which data-parallel training leaves, may always be there."""


def load_published(model: nn.Module, layout: str, path: str | Path) -> list[str]:
    """Fill `model` with a published checkpoint (.safetensors, or torch's format).

    Returns the names in the file that the layout ignores. Raises WeightsError, listing what is
    missing, unexpected or of another shape, unless every parameter and buffer of the model is in
    the file and the other way round; and for a file that cannot be read or holds anything but
    tensors and plain values.
    """
    if layout not in LAYOUTS:
        raise SettingsError(
            f"no checkpoint layout is called {layout!r}; known: {', '.join(LAYOUTS)}"
        )
    tensors = read_tensors(path)
    found = renamed(tensors, LAYOUTS[layout])
    wanted = model.state_dict()
    # Counters that only a cumulative batch norm uses; older checkpoints lack them.
    counters = {name: value for name, value in wanted.items() if name.endswith("batches_tracked")}
    found = {**counters, **found}
    if problems := differences(wanted, found):
        raise WeightsError(
            f"{path} does not fit {type(model).__name__} as a {layout!r} checkpoint: {problems}. "
            "Give the model the settings of the checkpoint, or take another file"
        )
    model.load_state_dict(found)
    return [name for name in tensors if ignored(name, LAYOUTS[layout])]


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say what is missing, unexpected or of another shape, the first of it; "" if nothing is."""
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is not part of the model" for name in found if name not in wanted]
    problems += [
        f"{name} is {list(found[name].shape)}, the model has {list(value.shape)}"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return "; ".join(problems[:SHOWN]) + more


def ignored(name: str, layout: Layout) -> bool:
    """Return whether the network has no use for this tensor of the file."""
    return bool(layout.ignore and re.match(layout.ignore, name.removeprefix("module.")))


def renamed(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return the tensors under our names."""
    result = {}
    for name, tensor in tensors.items():
        if ignored(name, layout):
            continue
        name = name.removeprefix("module.")
        for pattern, replacement in layout.rename:
            if match := re.match(pattern, name):
                name = replacement + name[match.end() :]
                break
        result[name] = tensor
    return result


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint, on the CPU; raises WeightsError.

    What else training code keeps in it (optimiser, epoch) is left out. Nothing in it is executed.
    """
    content = read_plain(path)
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no table of tensors: is it a checkpoint of weights?")
    return dict(content)


def read_plain(path: str | Path) -> object:
    """Return what a file holds, .safetensors or torch's format: tensors and plain values, on the
    CPU; nothing in it is executed. Raises WeightsError."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: object = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle any: KeyError, struct.error ...
        first = str(error).partition("\n")[0]
        raise WeightsError(
            f"cannot read the checkpoint {path}; is it damaged, or no file of weights? "
            f"({type(error).__name__}: {first})"
        ) from None
    return content
