"""OpenL3 as the judge of audio-visual correspondence, as AVStyle's paper measures it.

The published weights are those of the two towers alone: the layers that said whether a picture and
a sound belong together were never published, and the towers' features share no space. So AVC is
defined as in the paper, relative to that of other pictures, by the cosine:

    AVC(x, s) = 1/T Σ_t cos(f(x), g(s_t))

over windows s_t of 1 s that begin every 0.1 s, the first one half a second before the sound (26 of
them in 3 s). Both features are mostly positive, so that cosines are high for any pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from avdata import audio, weights
from avdata.audio.spec import OPENL3
from avdata.errors import WeightsError
from avdata.store import sha256_file
from stages.judges.correspondence import AvcEncoder
from stages.nn.frontend import Frontend
from stages.nn.openl3 import DIM, PICTURE_PX, Tower, load_tower

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = "openl3"
SUFFIXES = (".safetensors", ".h5", ".h5.gz")
HOP_S = 0.1
VIEW_PX = 256  # short side from which the centre is cut
AT_ONCE = 32  # windows of 1 s that pass the network together


class OpenL3(AvcEncoder):
    """Pictures and sounds → features [N, 512] whose product is AVC: of pictures of unit length, of
    sounds the mean of the windows' unit features.

    Pictures whose short side is not 224 to 256 are brought to 256 by Pillow's bilinear filter; the
    centre of 224 × 224 is seen.
    """

    dim = DIM

    def __init__(
        self,
        picture: Tower,
        sound: Tower,
        *,
        rate_hz: int = OPENL3.sample_rate_hz,
        source: str = "given weights",
        digest: str = "",
        device: str | torch.device = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self._picture = picture.eval().requires_grad_(False).to(self._device)
        self._sound = sound.eval().requires_grad_(False).to(self._device)
        self._frontend = Frontend(OPENL3).to(self._device)
        self._digest = digest
        self.rate_hz = rate_hz
        self.description = (
            f"OpenL3 (env, linear, 512; {source}): mean cosine of the picture and windows of 1 s "
            "every 0.1 s, to be compared between systems only"
        )

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        rate_hz: int = OPENL3.sample_rate_hz,
        device: str | torch.device = "cpu",
        download: bool = True,
    ) -> Self:
        """Load both towers from a folder, or from the weights table, downloaded if they may be.

        The folder holds openl3_audio_linear_env*.h5 (.h5.gz, .safetensors) and openl3_image_….
        Raises WeightsError, with what to do, if they cannot be had or do not fit.
        """
        here = weights.folder(WEIGHTS, download=download) if folder is None else Path(folder)
        sound, picture = Tower(1), Tower(3)
        files = [tower_file(here, kind) for kind in ("audio", "image")]
        for tower, file in zip((sound, picture), files, strict=True):
            load_tower(tower, file)
        digest = "+".join(sha256_file(file)[:16] for file in files)
        source = "published weights" if folder is None else here.name
        return cls(picture, sound, rate_hz=rate_hz, source=source, digest=digest, device=device)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the features depend on."""
        return {"extractor": "openl3", "sha256": self._digest, "rate_hz": self.rate_hz}

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return unit features [N, 512] of RGB pictures [H, W, 3], each of any size."""
        return _numpy(F.normalize(self.picture_embeddings(images), dim=1))

    def sounds(self, sounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return [N, 512], the mean over windows of their unit features, of sounds [n]."""
        return np.stack(
            [_numpy(F.normalize(self.sound_embeddings(own), dim=1).mean(dim=0)) for own in sounds]
        )

    def correspondence(
        self, pictures: NDArray[np.float32], sounds: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        cosines: NDArray[np.float64] = (pictures.astype(np.float64) * sounds).sum(axis=1)
        return cosines

    @torch.inference_mode()
    def picture_embeddings(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return OpenL3's own embeddings [N, 512] of pictures."""
        seen = np.stack([centre(image) for image in images])
        pixels = torch.from_numpy(seen).to(self._device).permute(0, 3, 1, 2).float()
        embeddings: torch.Tensor = self._picture(pixels / 127.5 - 1)
        return embeddings

    @torch.inference_mode()
    def sound_embeddings(
        self, sound: NDArray[np.float32], *, hop_s: float = HOP_S, centred: bool = True
    ) -> torch.Tensor:
        """Return OpenL3's own embeddings [T, 512] of the windows of a sound [n] at `rate_hz`.

        centred: half a second of silence lies before it.
        """
        cut = torch.from_numpy(windows(self._resampled(sound), hop_s, centred=centred))
        parts = torch.split(cut, AT_ONCE)
        return torch.cat([self._sound(self._decibels(part.to(self._device))) for part in parts])

    def _resampled(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.rate_hz == OPENL3.sample_rate_hz:
            return sound
        return audio.resample(sound, self.rate_hz, OPENL3.sample_rate_hz)

    def _decibels(self, cut: torch.Tensor) -> torch.Tensor:
        """Return [B, 1, 257, 197] in dB below each window's loudest value; silence is 0 dB."""
        decibels = (self._frontend.spectrogram(cut) - 1) * OPENL3.db_range
        silent = cut.abs().amax(dim=1) == 0
        return decibels.masked_fill(silent[:, None, None, None], 0)


def windows(
    sound: NDArray[np.float32], hop_s: float = HOP_S, *, centred: bool = True
) -> NDArray[np.float32]:
    """Return windows [T, 48000] of 1 s of a sound [n] at 48 kHz that cover all of it, zeros after.

    T = 1 + ⌈(n + 24000 − 48000) / hop⌉ if centred, and 1 at least.
    """
    length, hop = OPENL3.n_samples, int(hop_s * OPENL3.sample_rate_hz)
    before = length // 2 if centred else 0
    count = 1 + max(0, -(-(len(sound) + before - length) // hop))
    whole = np.zeros((count - 1) * hop + length, np.float32)
    whole[before : before + len(sound)] = sound[: len(whole) - before]
    cut = np.lib.stride_tricks.sliding_window_view(whole, length)[::hop]
    return cut.copy()


def centre(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the centre [224, 224, 3] of a picture, brought to a short side of 256 if need be."""
    if not PICTURE_PX <= min(image.shape[:2]) <= VIEW_PX:
        scale = VIEW_PX / min(image.shape[:2])
        size = (max(VIEW_PX, round(image.shape[1] * scale)),
                max(VIEW_PX, round(image.shape[0] * scale)))  # fmt: skip
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = (side // 2 - PICTURE_PX // 2 for side in image.shape[:2])
    return image[top : top + PICTURE_PX, left : left + PICTURE_PX]


def tower_file(folder: Path, kind: str) -> Path:
    """Return the file of one tower, "audio" or "image"; raises WeightsError without one."""
    stem = f"openl3_{kind}_linear_env"
    there = sorted(folder.glob(f"{stem}*")) if folder.is_dir() else []
    for suffix in SUFFIXES:
        for file in there:
            if file.name.endswith(suffix):
                return file
    raise WeightsError(
        f"OpenL3: {folder} holds no {stem}* ({', '.join(SUFFIXES)}); run: avdata weights get openl3"
    )


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.float().cpu().numpy()
    return values
