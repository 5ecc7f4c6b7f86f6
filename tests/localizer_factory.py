"""A tiny localizer whose answer is known in closed form, exported as a real ONNX file.

It sees the mean colour of a frame and hears how much sound lies in three bands:

    q_V = (mean R, mean G, mean B) in [0, 1]
    q_A = (low, middle, high): mean over time and over a third of the mel bands of
          log(mel power + log_offset) - log(log_offset), which is 0 in silence

so C = q_V . q_A is high for red with low, green with middle and blue with high sound. The map is
the mean brightness of each cell of a grid.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from avdata.audio.spec import AudioSpec
from avdata.strict import to_tree

IMAGE_PX = 64
GRID = 4
AUDIO = AudioSpec(
    name="tiny",
    sample_rate_hz=16000,
    n_samples=3552,
    fill="zeros",
    n_fft=512,
    window="hann",
    window_length=512,
    hop=160,
    edges="none",
    quantity="power",
    mel="htk",
    n_mels=24,
    mel_low_hz=0.0,
    mel_high_hz=8000.0,
    log="natural",
    log_offset=1e-6,
)
METADATA: dict[str, Any] = {
    "version": 1,
    "image_px": IMAGE_PX,
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
    "audio": to_tree(AUDIO),
}


def export_localizer(
    path: Path,
    *,
    metadata: Any = METADATA,
    outputs: tuple[str, ...] = ("q_V", "q_A", "map"),
    steps: int | str = "T",
    image_px: int = IMAGE_PX,
    frames_type: int = TensorProto.FLOAT,
    heard: int = 3,
    flatten_queries: bool = True,
    gain: float = 1.0,
    opset: int = 17,
) -> Path:
    """Write the model to `path`; every option but `metadata` makes it break the contract or vary.

    `heard` is the length of q_A, `flatten_queries=False` leaves q_V with rank 4, `gain` scales
    q_A, `steps` is the first axis of the inputs, `metadata=None` leaves the metadata out.
    """
    bands = AUDIO.n_mels
    groups = np.zeros((bands, heard), np.float32)
    for group in range(heard):
        groups[group * bands // heard : (group + 1) * bands // heard, group] = gain * heard / bands
    floor = np.full((heard,), -gain * math.log(AUDIO.log_offset), np.float32)
    cell = IMAGE_PX // GRID
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node(
            "ReduceMean", ["pixels"], ["q_V"], axes=[2, 3], keepdims=int(not flatten_queries)
        ),
        helper.make_node("ReduceMean", ["audio"], ["energy"], axes=[1, 3], keepdims=0),
        helper.make_node("Gemm", ["energy", "groups", "floor"], ["q_A"]),
        helper.make_node(
            "AveragePool", ["pixels"], ["cells"], kernel_shape=[cell, cell], strides=[cell, cell]
        ),
        helper.make_node("ReduceMean", ["cells"], ["map"], axes=[1], keepdims=0),
    ]
    shapes = {
        "q_V": [steps, 3] if flatten_queries else [steps, 3, 1, 1],
        "q_A": [steps, heard],
        "map": [steps, GRID, GRID],
    }
    graph = helper.make_graph(
        nodes,
        "tiny_localizer",
        [
            helper.make_tensor_value_info("frames", frames_type, [steps, 3, image_px, image_px]),
            helper.make_tensor_value_info("audio", TensorProto.FLOAT, [steps, *AUDIO.shape]),
        ],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in outputs],
        [numpy_helper.from_array(groups, "groups"), numpy_helper.from_array(floor, "floor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if metadata is not None:
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        helper.set_model_props(model, {"avdata.localizer": text})
    onnx.save(model, path)
    return path
