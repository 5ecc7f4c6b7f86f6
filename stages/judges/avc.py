"""The judge of audio-visual correspondence that `train_avc` taught, where OpenL3 is not to be had.

Its AVC is a probability: that the picture belongs to the sound, with as many right pairs as wrong.
So .5 says nothing. It knows no other world than its training split's, and no value of it can be set
beside OpenL3's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from avdata import audio
from avdata.audio.spec import AudioSpec
from avdata.errors import WeightsError
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD, normalise, squash
from avdata.store import sha256_file
from avdata.strict import build
from stages.engine.checkpoint import load_model
from stages.judges.correspondence import AvcEncoder
from stages.nn.avc import AvcNetwork
from stages.nn.frontend import Frontend

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS_AT_ONCE = 4096


class TrainedAvc(AvcEncoder):
    """Pictures and sounds → features [N, dim]; of a sound the mean over windows of 3 s.

    The windows begin every half of their length, and cover all of the sound but a rest that is
    shorter than that; a shorter sound starts over until it fills one.
    """

    def __init__(
        self,
        network: AvcNetwork,
        spec: AudioSpec,
        *,
        rate_hz: int | None = None,
        digest: str = "",
        device: str | torch.device = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self._network = network.eval().requires_grad_(False).to(self._device)
        self._frontend = Frontend(spec).to(self._device)
        self._spec, self._digest = spec, digest
        self.rate_hz = spec.sample_rate_hz if rate_hz is None else rate_hz
        self.dim = network.dim
        self.description = (
            f"not OpenL3: a small network of two towers, trained here by train_avc ({digest[:8]}); "
            "the probability that picture and sound belong together, .5 if it cannot tell"
        )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        rate_hz: int | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load what train_avc wrote, file or folder; raises CheckpointError or WeightsError."""
        network, metadata = load_model(path)
        if not isinstance(network, AvcNetwork):
            raise WeightsError(
                f"{path} holds the model {metadata.get('model')!r}, not 'avc': name what train_avc "
                "wrote"
            )
        given = Path(path)
        file = given / "model.safetensors" if given.is_dir() else given
        spec = build(AudioSpec, metadata["audio"], f"audio front-end of {path}")
        return cls(network, spec, rate_hz=rate_hz, digest=sha256_file(file), device=device)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {"extractor": "avc", "sha256": self._digest, "rate_hz": self.rate_hz}

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return features [N, dim] of RGB pictures [H, W, 3], each of any size."""
        side = self._network.image_px
        squares = np.stack([squash(image, side, side) for image in images])
        pixels = torch.from_numpy(normalise(squares, IMAGENET_MEAN, IMAGENET_STD))
        with torch.inference_mode():
            return _numpy(self._network.pictures(pixels.to(self._device)))

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return features [N, dim] of sounds [n] at `rate_hz`, each of any length."""
        with torch.inference_mode():
            return np.stack([_numpy(self._heard(own).mean(dim=0)) for own in sounds])

    def correspondence(
        self, pictures: NDArray[np.float32], sounds: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        found = []
        for first in range(0, len(pictures), PAIRS_AT_ONCE):
            rows = slice(first, first + PAIRS_AT_ONCE)
            v, a = (
                torch.from_numpy(np.array(x[rows])).to(self._device) for x in (pictures, sounds)
            )
            with torch.inference_mode():
                found.append(_numpy(self._network.logits(v, a).sigmoid()).astype(np.float64))
        return np.concatenate(found)

    def _heard(self, sound: NDArray[np.float32]) -> torch.Tensor:
        """Return the features [T, dim] of the windows of a sound."""
        spec = self._spec
        if self.rate_hz != spec.sample_rate_hz:
            sound = audio.resample(sound, self.rate_hz, spec.sample_rate_hz)
        length = spec.n_samples
        starts = range(0, max(1, len(sound) - length + 1), length // 2)
        cut = [torch.from_numpy(np.array(sound[s : s + length]))[None] for s in starts]
        heard = torch.cat([self._frontend(own.to(self._device)) for own in cut])
        return self._network.sounds(heard)


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.float().cpu().numpy()
    return values
