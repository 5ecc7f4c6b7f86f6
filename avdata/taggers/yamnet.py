"""YAMNet: scores of 521 AudioSet classes, by LiteRT or by tensorflow-hub.

Both hear mono sound at 16 kHz in windows of 0.975 s every 0.48 s; the last window is filled up
with silence, as the official model does it, so the two give the same windows.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from avdata import weights
from avdata.audio import resample
from avdata.config import YamnetSettings
from avdata.errors import WeightsError
from avdata.measures import class_index
from avdata.store import sha256_file
from avdata.taggers.base import Sample, Tags

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16000
WINDOW_SAMPLES = 15600
HOP_SAMPLES = 7680
N_CLASSES = 521
HUB_HANDLE = "https://tfhub.dev/google/yamnet/1"
PRESENT = 0.5
"""A class is heard in a window whose score for it is at least this."""


class Yamnet:
    """Mean and maximum over the clip of every class score; shares of speech and of music."""

    names: ClassVar[tuple[str, ...]] = ("speech_share", "music_share")

    def __init__(self, settings: YamnetSettings) -> None:
        self._settings = settings

    def fingerprint(self) -> dict[str, Any]:
        given = self._settings.weights
        if self._settings.backend == "litert":
            if given is not None:
                weights.path("yamnet", given, download=False)
            return {"backend": "litert", "model": weights.entry("yamnet").sha256}
        return {"backend": "tfhub", "model": _hub_digest(given or HUB_HANDLE)}

    def tag(self, sample: Sample) -> Tags:
        if not sample.has_sound:
            return Tags()
        scores = self.score(sample.samples, sample.sample_rate_hz)
        present = scores >= PRESENT
        return Tags(
            measures={
                "speech_share": float(present[:, class_index("Speech")].mean()),
                "music_share": float(present[:, class_index("Music")].mean()),
            },
            class_scores=_float32_tuple(scores.mean(axis=0, dtype=np.float64)),
            class_scores_max=_float32_tuple(scores.max(axis=0)),
        )

    def score(self, samples: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
        """Return the class scores [n_windows, 521] in [0, 1] of mono sound [n] in [-1, 1)."""
        if sample_rate_hz != SAMPLE_RATE_HZ:
            samples = resample(samples, sample_rate_hz, SAMPLE_RATE_HZ)
        return _model(self._settings).score(_windows(samples))


def _windows(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a view [n_windows, 15600] of the sound, filled up to whole windows."""
    hops = max(0, -(-(len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES))
    padded = np.zeros(WINDOW_SAMPLES + hops * HOP_SAMPLES, np.float32)
    padded[: len(samples)] = samples
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES]


def _float32_tuple(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.astype(np.float32).tolist())


class _Model(Protocol):
    def score(self, windows: NDArray[np.float32]) -> NDArray[np.float32]: ...


class _LiteRt:
    """The official .tflite, whose input is one window: framing and spectrogram are inside."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def score(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = np.empty((len(windows), N_CLASSES), np.float32)
        for row, window in zip(scores, windows, strict=True):
            self._interpreter.set_tensor(self._input, window)
            self._interpreter.invoke()
            row[:] = self._interpreter.get_tensor(self._output)[0]
        return scores


class _Hub:
    """A SavedModel in the layout of google/yamnet/1: a waveform in, (scores, ...) out."""

    def __init__(self, handle: str, batch_size: int) -> None:
        try:
            import tensorflow_hub
        except ImportError as error:
            raise WeightsError(
                f"backend tfhub needs tensorflow-hub ({error}): pip install 'avdata[tfhub]', "
                "or set steps.tag.yamnet.backend=litert"
            ) from None
        try:
            self._model = tensorflow_hub.load(handle)
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"tensorflow-hub cannot load {handle!r} ({error}); give the folder of the "
                "SavedModel as steps.tag.yamnet.weights"
            ) from None
        self._batch_size = batch_size

    def score(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        batches = []
        for start in range(0, len(windows), self._batch_size):
            batch = windows[start : start + self._batch_size]
            # Windows overlap, so a run of them is one stretch of sound.
            stretch = np.concatenate([batch[:-1, :HOP_SAMPLES].ravel(), batch[-1]])
            scores = self._model(stretch)[0].numpy()
            if scores.ndim != 2 or scores.shape[1] != N_CLASSES or len(scores) < len(batch):
                raise WeightsError(
                    f"the model behind steps.tag.yamnet.weights is not YAMNet: scores of shape "
                    f"{scores.shape} for {len(batch)} windows, expected ({len(batch)}, {N_CLASSES})"
                )
            # The model's own arithmetic may find one window more, of mere filling, at the end.
            batches.append(scores[: len(batch)])
        return np.concatenate(batches)


class _Loaded(threading.local):
    """Models are built once per thread (an interpreter serves one thread) and never pickled."""

    def __init__(self) -> None:
        self.models: dict[YamnetSettings, _Model] = {}


_loaded = _Loaded()


def _model(settings: YamnetSettings) -> _Model:
    if settings not in _loaded.models:
        if settings.backend == "litert":
            path = weights.path("yamnet", settings.weights)
            _loaded.models[settings] = _LiteRt(path, settings.threads)
        else:
            _loaded.models[settings] = _Hub(settings.weights or HUB_HANDLE, settings.batch_size)
    return _loaded.models[settings]


def _hub_digest(handle: str) -> str:
    """Return the handle, or a digest of every file if it is a local folder."""
    folder = Path(handle)
    if not folder.is_dir():
        if "://" not in handle:
            raise WeightsError(f"no SavedModel folder at {handle!r} (steps.tag.yamnet.weights)")
        return handle
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()
