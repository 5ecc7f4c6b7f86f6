"""The trained sound-source localizer, as an ONNX file: C[t] = q_V[t] . q_A[t].

docs/localizer-contract.md says what such a file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from avdata import frames
from avdata.audio import spectrograms
from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError
from avdata.parsing import parse_json
from avdata.scorers.base import ScoredClip, Scores, read_setting
from avdata.scorers.onnx_file import has_external_data
from avdata.strict import build, setting

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

METADATA_KEY = "avdata.localizer"
VERSION = 1
BATCH_FRAMES = 32
MAX_IMAGE_PX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSpec:
    """What a localizer file says about its pictures: the JSON under METADATA_KEY, less `audio`."""

    version: int = setting(0, "Version of the contract.")
    image_px: int = setting(0, "Side of the square pictures.")
    mean: tuple[float, ...] = setting((), "Per RGB channel, subtracted from values in [0, 1].")
    std: tuple[float, ...] = setting((), "Per RGB channel, divided by.")

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ValueError(f"version must be {VERSION}, got {self.version}")
        if not 1 <= self.image_px <= MAX_IMAGE_PX:
            raise ValueError(f"image_px must be 1 to {MAX_IMAGE_PX}, got {self.image_px}")
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
            raise ValueError(
                f"mean and std must hold 3 numbers, std above 0, got {self.mean} and {self.std}"
            )


class Localizer:
    """Scores a frame by C[t] = q_V[t] . q_A[t] and keeps the localisation maps.

    Adds the measure `c_max`, the highest score of the clip.

    q_V [T, D] is what the model sees in frame t and q_A [T, D] what it hears around it, both as
    exported: whether they have unit length is the model's choice. One session per process and
    file, on one thread of the CPU, so that results do not depend on the machine's load.
    """

    name: ClassVar[str] = "localizer"
    measures: ClassVar[tuple[str, ...]] = ("c_max",)
    uses_seed: ClassVar[bool] = False

    def __init__(self, path: str | None) -> None:
        data = read_setting(path, "localizer", self.name)
        self._path = str(path)
        self._sha256 = hashlib.sha256(data).hexdigest()
        if self._sha256 not in _models:
            _models[self._sha256] = Model(data, self._path)
        self._model = _models[self._sha256]

    def __reduce__(self) -> tuple[type[Localizer], tuple[str]]:
        return (type(self), (self._path,))  # a session cannot be pickled

    def fingerprint(self) -> dict[str, Any]:
        return {"localizer_sha256": self._sha256}

    def score(self, clip: ScoredClip) -> Scores:
        model = self._model
        rate_hz = clip.media.sample_rate_hz
        if clip.media.n_samples and rate_hz != model.audio.sample_rate_hz:
            raise SettingsError(
                f"{self._path} hears sound at {model.audio.sample_rate_hz} Hz, but the clips are "
                f"at {rate_hz} Hz; set steps.trim.sample_rate_hz to the model's rate"
            )
        images = clip.images()
        scores, maps = [], []
        for patches in iter_patches(clip.sound, clip.times_s, model.audio):
            out = model.run(model.pixels(islice(images, len(patches))), patches)
            scores.append(np.sum(out["q_V"] * out["q_A"], axis=1))
            maps.append(out.get("map"))
        frame_scores = np.concatenate(scores)
        if not np.isfinite(frame_scores).all():
            raise SettingsError(
                f"{self._path} gave a score that is not finite on clip {clip.clip.key}; "
                "export the model again, or take another"
            )
        kept = [one for one in maps if one is not None]
        return Scores(
            frame_scores,
            maps=np.concatenate(kept) if kept else None,
            measures={"c_max": float(frame_scores.max())},
        )


class Model:
    """A localizer file, checked against the contract; SettingsError says what is wrong."""

    def __init__(self, data: bytes, path: str) -> None:
        self._path = path
        self._session = _session(data, path)
        self.pictures, self.audio = self._specs()
        side = self.pictures.image_px
        self._check_input("frames", (3, side, side))
        self._check_input("audio", self.audio.shape)
        inputs = {value.name for value in self._session.get_inputs()}
        if extra := sorted(inputs - {"frames", "audio"}):
            raise self._wrong(f"has inputs beside frames and audio: {', '.join(extra)}")
        outputs = [value.name for value in self._session.get_outputs()]
        if missing := sorted({"q_V", "q_A"} - set(outputs)):
            raise self._wrong(f"lacks the output {', '.join(missing)}; it has {', '.join(outputs)}")
        self._outputs = [name for name in ("q_V", "q_A", "map") if name in outputs]
        self._check_outputs()

    def pixels(self, images: Iterator[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return pictures as the model takes them, [T, 3, image_px, image_px]."""
        side = self.pictures.image_px
        squares = [frames.squash(image, side, side) for image in images]
        (m0, m1, m2), (s0, s1, s2) = self.pictures.mean, self.pictures.std
        return frames.normalise(np.stack(squares), (m0, m1, m2), (s0, s1, s2))

    def run(self, pixels: NDArray[np.float32], audio: NDArray[np.float32]) -> dict[str, Any]:
        """Return the outputs by name, for [T, 3, H, W] pixels and [T, 1, F, N] sound."""
        values = self._session.run(self._outputs, {"frames": pixels, "audio": audio})
        return dict(zip(self._outputs, values, strict=True))

    def _wrong(self, what: str) -> SettingsError:
        return SettingsError(
            f"steps.select.localizer: {self._path} {what} (see docs/localizer-contract.md)"
        )

    def _specs(self) -> tuple[PictureSpec, AudioSpec]:
        metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise self._wrong(f"has no {METADATA_KEY!r} in its metadata: is it a localizer?")
        try:
            tree = parse_json(metadata[METADATA_KEY])
        except ValueError as error:
            raise self._wrong(f"has metadata that is not JSON: {error}") from None
        where = f"steps.select.localizer: {self._path}: {METADATA_KEY}"
        if not isinstance(tree, dict):
            raise SettingsError(f"{where} must be an object, got {type(tree).__name__}")
        audio = tree.pop("audio", {})
        pictures = build(PictureSpec, tree, where)
        try:
            return pictures, AudioSpec.from_json(json.dumps(audio))
        except SettingsError as error:
            raise SettingsError(f"{where}: audio: {error}") from None

    def _check_input(self, name: str, shape: tuple[int, int, int]) -> None:
        found = {value.name: value for value in self._session.get_inputs()}
        if name not in found:
            raise self._wrong(f"lacks the input {name}; it has {', '.join(found)}")
        got = list(found[name].shape)
        wanted = "[T, " + ", ".join(map(str, shape)) + "]"
        if found[name].type != "tensor(float)":
            raise self._wrong(f"takes {name} as {found[name].type}, not float32")
        fits = len(got) == 4 and all(
            not isinstance(g, int) or g == w for g, w in zip(got[1:], shape, strict=True)
        )
        if not fits:
            raise self._wrong(f"takes {name} of shape {got}, but its metadata ask for {wanted}")
        if isinstance(got[0], int):
            raise self._wrong(f"takes exactly {got[0]} steps of {name}; leave the first axis free")

    def _check_outputs(self) -> None:
        """Run two steps of grey and silence, and look at what comes out."""
        steps, side = 2, self.pictures.image_px
        try:
            pixels = np.zeros((steps, 3, side, side), np.float32)
            audio = np.zeros((steps, *self.audio.shape), np.float32)
            out = self.run(pixels, audio)
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise self._wrong(f"fails on {steps} steps of silence: {error}") from None
        for name, value in out.items():
            rank = 3 if name == "map" else 2
            if value.ndim != rank or len(value) != steps or value.dtype != np.float32:
                axes = "[T, h, w]" if name == "map" else "[T, D]"
                raise self._wrong(
                    f"gives {name} as {value.dtype} {list(value.shape)} for T = {steps}; "
                    f"it must be float32 {axes}"
                )
        if out["q_V"].shape != out["q_A"].shape:
            raise self._wrong(
                f"gives q_V and q_A of different lengths, {out['q_V'].shape[1]} and "
                f"{out['q_A'].shape[1]}"
            )


_models: dict[str, Model] = {}  # by digest of the file


def _session(data: bytes, path: str) -> InferenceSession:
    import onnxruntime

    try:
        external = has_external_data(data)
    except ValueError as error:
        raise SettingsError(f"steps.select.localizer: {path} is no ONNX file: {error}") from None
    if external:
        raise SettingsError(
            f"steps.select.localizer: {path} keeps tensors in other files, which are not read; "
            "save it as one file (onnx.save without save_as_external_data)"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise SettingsError(
            f"steps.select.localizer: onnxruntime {onnxruntime.__version__} cannot load {path}: "
            f"{error}"
        ) from None


def iter_patches(
    sound: NDArray[np.float32], times_s: NDArray[np.float64], spec: AudioSpec
) -> Iterator[NDArray[np.float32]]:
    """Yield what the model hears around each time, float32 [up to BATCH_FRAMES, *spec.shape].

    A patch is `features` of the spec.n_samples samples [c - n_samples // 2, ...) around sample
    c = round(t * rate); beyond the clip there is silence.
    """
    half = spec.n_samples // 2
    padded = np.pad(sound, (half, spec.n_samples))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spec.n_samples)
    centres = np.round(times_s * spec.sample_rate_hz).astype(np.int64)
    starts = np.clip(centres, 0, len(windows) - 1)
    for first in range(0, len(starts), BATCH_FRAMES):
        batch = starts[first : first + BATCH_FRAMES]
        yield np.stack([spectrograms.features(windows[start], spec) for start in batch])
