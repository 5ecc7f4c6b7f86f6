"""The restyler as three ONNX files: content, drawing, sound encoder; checked against torch.

    content.onnx        picture [B, 3, H, W] in [-1, 1] → features [B, C, H / 4, W / 4]
    drawing.onnx        features, heard [B, D] → picture [B, 3, H, W] in [-1, 1]
    sound_encoder.onnx  spectrogram [B, 1, F, N] → heard [B, D]

B, H and W are free, H and W multiples of 4. Each file says in its properties which part it is, how
sound becomes a spectrogram (`avdata.audio.spectrograms` computes it without torch) and from which
weights it was made.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from avdata.errors import AvdataError
from avdata.store import Store
from avdata.strict import to_tree

if TYPE_CHECKING:
    from stages.avstyle.restyler import Restyler

OPSET = 17
METADATA_KEY, VERSION = "avdata", 1
TOLERANCE = 1e-3  # of the largest number that torch gives
PICTURE, FEATURES = {0: "B", 2: "H", 3: "W"}, {0: "B", 2: "h", 3: "w"}


class ExportError(AvdataError):
    """What was exported does not do what torch does."""


@dataclass(frozen=True, slots=True)
class Half:
    """A network, its inputs to trace it with, and which axes of inputs and output are free."""

    network: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    free: Mapping[str, Mapping[int, str]]


def export(model: Restyler, folder: Path, seed: int = 0) -> dict[str, float]:
    """Write the three files; return of each by how much onnxruntime differs from torch at most.

    Relative to the largest number, on random input of two sizes, one of them not what was traced.
    Raises ExportError beyond TOLERANCE, and then leaves no such file.
    """
    store, spec = Store(str(folder)), model.spec  # a baseline has none and says so
    facts = {
        "version": VERSION,
        "resolution_px": model.resolution_px,
        "audio": to_tree(spec),
        "sources": {part: dict(source) for part, source in model.sources.items()},
    }
    apart: dict[str, float] = {}
    for name, half in halves(model).items():
        with store.writing(f"{name}.onnx") as path:
            _write(half, path, {**facts, "part": name})
            apart[name] = max(_apart(half, path, given) for given in _shown(half, seed))
            if not apart[name] <= TOLERANCE:  # or NaN
                raise ExportError(
                    f"{name}.onnx differs from torch {torch.__version__} by {apart[name]:.2g}, "
                    f"more than {TOLERANCE:g}; give --device cpu, or other versions of torch, onnx "
                    "and onnxruntime"
                )
    return apart


def halves(model: Restyler) -> dict[str, Half]:
    """Return copies of the networks on the CPU, by the name of their files."""
    generator, ear = copy.deepcopy(model.generator).cpu(), copy.deepcopy(model.ear).cpu()
    pictures = torch.zeros(2, 3, model.resolution_px, model.resolution_px)
    heard = {"heard": {0: "B"}}
    with torch.no_grad():
        features = generator.content(pictures)
    return {
        "content": Half(
            generator.content,
            {"picture": pictures},
            "features",
            {"picture": PICTURE, "features": FEATURES},
        ),
        "drawing": Half(
            generator.drawing,
            {"features": features, "heard": torch.zeros(2, ear.out_dim)},
            "picture",
            {"features": FEATURES, "picture": PICTURE, **heard},
        ),
        "sound_encoder": Half(
            ear,
            {"spectrogram": torch.zeros(2, *model.spec.shape)},
            "heard",
            {"spectrogram": {0: "B"}, **heard},
        ),
    }


def _write(half: Half, path: Path, description: Mapping[str, Any]) -> None:
    import onnx

    with warnings.catch_warnings(), torch.no_grad():
        # It warns of each check of a size, which it leaves out, and of what it does not fold.
        warnings.simplefilter("ignore")
        # The exporter that traces needs no package beside onnx; it also folds batch norms.
        torch.onnx.export(
            half.network,
            tuple(half.inputs.values()),
            path,
            input_names=list(half.inputs),
            output_names=[half.output],
            dynamic_axes={name: dict(axes) for name, axes in half.free.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    file = onnx.load(path)
    onnx.helper.set_model_props(file, {METADATA_KEY: json.dumps(description)})
    onnx.save(file, path)


def _shown(half: Half, seed: int) -> list[dict[str, Tensor]]:
    """Return random inputs: of the traced sizes, and of others where they are free."""
    rng = torch.Generator().manual_seed(seed)

    def size(name: str, x: Tensor, more: int) -> list[int]:
        steps = (1, 0, 4, 8)  # of batch, channels, height, width
        free = half.free[name]
        return [n + more * steps[axis] * (axis in free) for axis, n in enumerate(x.shape)]

    return [
        {name: torch.randn(size(name, x, more), generator=rng) for name, x in half.inputs.items()}
        for more in (0, 1)
    ]


def _apart(half: Half, path: Path, given: Mapping[str, Tensor]) -> float:
    """Return max |onnxruntime − torch| over max |torch|, or over 1 where that is less."""
    import onnxruntime

    with torch.no_grad():
        wanted: Tensor = half.network(*given.values())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {name: value.numpy() for name, value in given.items()}
    (found,) = session.run([half.output], feeds)
    largest = max(1.0, float(wanted.abs().max()))
    return float((torch.from_numpy(found) - wanted).abs().max()) / largest
