"""Sound2Scene put together: what it hears, what it sees, what it draws.

Sung-Bin et al., Sound to Visual Scene Generation by Audio-to-Visual Latent Alignment, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError
from stages.engine.rng import generator_for
from stages.generation.inputs import InputError, Picture, Sound
from stages.generation.sounds import fit
from stages.image_encoder.frozen import Encoder
from stages.nn.frontend import Frontend
from stages.nn.pictures import as_images, as_pictures
from stages.nn.sphere import interpolated, unit_norm
from stages.sound2scene.audio_encoder import AudioEncoder
from stages.sound2scene.icgan import Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How pictures reach the image encoder, as in its training; the defaults are the paper's."""

    view_px: int = 256  # side to which a picture is squashed
    input_px: int | None = 224  # side to which it is then resampled (bicubic); None: not


@dataclass(frozen=True, kw_only=True)
class Sound2Scene:
    """A generator, and what may give it features: an audio encoder, an image encoder.

    All networks are frozen and in evaluation mode. sources: of each part, its file and SHA-256.
    """

    generator: Generator
    audio_encoder: AudioEncoder | None
    frontend: Frontend | None
    image_encoder: Encoder | None
    sight: Sight
    device: torch.device
    sources: Mapping[str, Mapping[str, str]]

    @property
    def spec(self) -> AudioSpec:
        """The front-end; raises SettingsError without an audio encoder."""
        if self.frontend is None:
            raise SettingsError(
                "sounds need an audio encoder: finish `python -m stages.train_sound2scene`, or "
                "give --audio-encoder"
            )
        return self.frontend.spec

    @property
    def hears(self) -> tuple[int, float]:
        """Sample rate in Hz and seconds that it hears, as `read_sound` takes them."""
        return self.spec.sample_rate_hz, self.spec.n_samples / self.spec.sample_rate_hz

    def spectrogram(self, fitted: NDArray[np.float32]) -> Tensor:
        """Return what the audio encoder sees, [1, 1, F, N], of fitted sound [n_samples]."""
        _ = self.spec
        assert self.frontend is not None
        return self.frontend.spectrogram(torch.from_numpy(fitted)[None].to(self.device))

    @torch.no_grad()
    def hear(self, sound: Sound | NDArray[np.float32]) -> Tensor:
        """Return z^A [D], of unit norm, of a sound, or of one already fitted [n_samples].

        Raises InputError if the encoder answers it with zeros.
        """
        fitted = fit(sound, self.spec) if isinstance(sound, Sound) else sound
        assert self.audio_encoder is not None
        z_a: Tensor = self.audio_encoder(self.spectrogram(fitted))[0]
        if not z_a.any():
            raise InputError("the audio encoder gives all zeros for a sound: was it trained?")
        return unit_norm(z_a)

    @torch.no_grad()
    def see(self, picture: NDArray[np.uint8]) -> Tensor:
        """Return z^V [D], of unit norm, of a picture [H, W, 3]."""
        side = self.sight.view_px
        squashed = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        return unit_norm(self.features(as_pictures(np.array(squashed)[None], self.device))[0])

    def features(self, x: Tensor) -> Tensor:
        """Return z^V [B, D], raw, of pictures [B, 3, H, W] in [-1, 1]; differentiable.

        Raises SettingsError without an image encoder.
        """
        if self.image_encoder is None:
            raise SettingsError(
                "pictures need an image encoder: finish `python -m stages.train_image_encoder`, "
                "or give --image-encoder"
            )
        sight, encoder = self.sight, self.image_encoder
        if x.shape[-1] != sight.view_px:
            x = F.interpolate(x, (sight.view_px,) * 2, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v, device=x.device) for v in (encoder.mean, encoder.std))
        x = ((x + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        if sight.input_px is not None:
            x = F.interpolate(x, (sight.input_px,) * 2, mode="bicubic", align_corners=True)
        z_v: Tensor = encoder.network(x)
        return z_v

    def noise(self, key: str, n: int, seed: int) -> Tensor:
        """Return z ~ N(0, 1) [n, z_dim] of the first n pictures of `key`, without truncation.

        Each picture has a generator of its own, on the CPU: neither n nor batch nor device
        changes its noise.
        """
        cpu = torch.device("cpu")
        rngs = [generator_for(seed, "generate", f"{key}/{i}", cpu) for i in range(n)]
        drawn = [torch.randn(self.generator.z_dim, generator=rng) for rng in rngs]
        return torch.stack(drawn).to(self.device)

    @torch.no_grad()
    def draw(self, h: Tensor, z: Tensor, batch_size: int = 16) -> NDArray[np.uint8]:
        """Return pictures uint8 [n, R, R, 3] of noise z [n, z_dim] and features h, unit norm.

        h: [D], the same for all, or [n, D].
        """
        h = h.expand(len(z), -1)
        batches = [slice(i, i + batch_size) for i in range(0, len(z), batch_size)]
        return np.concatenate([as_images(self.generator(z[some], h[some])) for some in batches])

    def generate(
        self,
        sound: Sound | None = None,
        image: Picture | None = None,
        *,
        sound_weight: float = 0.5,
        n: int = 4,
        seed: int = 0,
        batch_size: int = 16,
    ) -> NDArray[np.uint8]:
        """Return n pictures uint8 [n, R, R, 3] of a sound, of an image, or of both.

        sound_weight: of both, the share of the sound, on the straight line between their features
        (renormalised). The noise is keyed by the sound's name, or else the image's, and the seed.
        """
        if sound is not None and image is not None:
            h = interpolated(self.see(image.image), self.hear(sound), sound_weight)
        elif sound is not None:
            h = self.hear(sound)
        elif image is not None:
            h = self.see(image.image)
        else:
            raise ValueError("give a sound, an image, or both")
        named = sound or image
        assert named is not None
        return self.draw(h, self.noise(named.name, n, seed), batch_size)
