"""Sound2Scene put together: what it hears, what it sees, what it draws.

Sung-Bin et al., Sound to Visual Scene Generation by Audio-to-Visual Latent Alignment, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avdata import frames
from avdata.audio.spec import AudioSpec
from avdata.audio.spectrograms import fit_samples
from avdata.errors import SettingsError
from stages.engine.rng import generator_for
from stages.generation.inputs import InputError, Picture, Sound
from stages.generation.painter import Ask
from stages.generation.sounds import fit
from stages.image_encoder.frozen import FrozenEncoder
from stages.nn.encoder import Encoder
from stages.nn.frontend import Frontend
from stages.nn.gradcam import cosine_to, grad_cam, own_length
from stages.nn.pictures import as_images, as_pictures
from stages.nn.sphere import Way, angle_rad, interpolated, unit_norm
from stages.sound2scene.audio_encoder import AudioEncoder
from stages.sound2scene.encoders import PictureEncoder, SoundEncoder
from stages.sound2scene.icgan import Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
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
    image_encoder: FrozenEncoder | None
    view: PictureView
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

    @property
    def resolution_px(self) -> int:
        """Side of the pictures."""
        return self.generator.resolution

    @property
    def picture_encoder(self) -> Encoder:
        """z^V of unit norm: pictures as the image encoder sees them."""
        return PictureEncoder(self)

    @property
    def sound_encoder(self) -> Encoder:
        """z^A of unit norm: sounds as the audio encoder hears them."""
        return SoundEncoder(self)

    def identity(self) -> dict[str, Any]:
        """Return what its pictures depend on: the weights of every part, and the view."""
        weights = {part: source["sha256"] for part, source in self.sources.items()}
        return {"weights": weights, "view": [self.view.view_px, self.view.input_px]}

    def spectrogram(self, fitted: NDArray[np.float32]) -> Tensor:
        """Return what the audio encoder sees, [1, 1, F, N], of fitted sound [n_samples]."""
        _ = self.spec
        assert self.frontend is not None
        return self.frontend.spectrogram(torch.from_numpy(fitted)[None].to(self.device))

    @torch.no_grad()
    def heard(self, sounds: Sequence[NDArray[np.float32]]) -> Tensor:
        """Return z^A [B, D], of unit norm, of sounds [n], each of any length, at its own rate.

        Raises InputError if the encoder answers one with zeros.
        """
        spec = self.spec
        assert self.audio_encoder is not None
        assert self.frontend is not None
        fitted = torch.from_numpy(np.stack([fit_samples(sound, spec) for sound in sounds]))
        z_a: Tensor = self.audio_encoder(self.frontend.spectrogram(fitted.to(self.device)))
        if not z_a.any(dim=1).all():
            raise InputError("the audio encoder gives all zeros for a sound: was it trained?")
        return unit_norm(z_a)

    def hear(self, sound: Sound) -> Tensor:
        """Return z^A [D], of unit norm; raises SettingsError for a sound at another rate."""
        return self.heard([fit(sound, self.spec)])[0]

    @torch.no_grad()
    def seen(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return z^V [B, D], of unit norm, of pictures [H, W, 3], each of any size."""
        side = self.view.view_px
        views = np.stack([frames.squash(picture, side, side) for picture in pictures])
        return unit_norm(self.features(as_pictures(views, self.device)))

    def latent(self, end: Sound | Picture) -> Tensor:
        """Return the feature [D], of unit norm, of a sound or a picture."""
        return self.hear(end) if isinstance(end, Sound) else self.seen([end.image])[0]

    def between(self, a: Tensor, b: Tensor, share: float, way: Way) -> tuple[Tensor, float]:
        """Return the feature the share of the way from a to b, and its angle to a in rad."""
        h = interpolated(a, b, share, way)
        return h, angle_rad(a, h)

    def features(self, x: Tensor) -> Tensor:
        """Return z^V [B, D], raw, of pictures [B, 3, H, W] in [-1, 1]; differentiable.

        Raises SettingsError without an image encoder.
        """
        if self.image_encoder is None:
            raise SettingsError(
                "pictures need an image encoder: finish `python -m stages.train_image_encoder`, "
                "or give --image-encoder"
            )
        view, encoder = self.view, self.image_encoder
        if x.shape[-1] != view.view_px:
            x = F.interpolate(x, (view.view_px,) * 2, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v, device=x.device) for v in (encoder.mean, encoder.std))
        x = ((x + 1) / 2 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        if view.input_px is not None:
            x = F.interpolate(x, (view.input_px,) * 2, mode="bicubic", align_corners=True)
        z_v: Tensor = encoder.network(x)
        return z_v

    def noise(self, key: str, n: int, seed: int) -> Tensor:
        """Return z ~ N(0, 1) [n, z_dim] of the first n pictures of `key`, without truncation."""
        return torch.stack([self.noise_of(key, number, seed) for number in range(n)])

    def noise_of(self, key: str, number: int, seed: int) -> Tensor:
        """Return z [z_dim] of one picture.

        Each has a generator of its own, on the CPU: no batch and no device changes its noise.
        """
        rng = generator_for(seed, "generate", f"{key}/{number}", torch.device("cpu"))
        return torch.randn(self.generator.z_dim, generator=rng).to(self.device)

    @torch.no_grad()
    def draw(self, h: Tensor, z: Tensor, batch_size: int = 16) -> NDArray[np.uint8]:
        """Return pictures uint8 [n, R, R, 3] of noise z [n, z_dim] and features h, unit norm.

        h: [D], the same for all, or [n, D].
        """
        h = h.expand(len(z), -1)
        batches = [slice(i, i + batch_size) for i in range(0, len(z), batch_size)]
        return np.concatenate([as_images(self.generator(z[some], h[some])) for some in batches])

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return a picture [N, R, R, 3] of each ask's sound, of its picture, or between both."""
        z = torch.stack([self.noise_of(ask.key, ask.number, seed) for ask in asks])
        return self.draw(self._conditions(asks, sound_weight=0.5), z)

    def _conditions(self, asks: Sequence[Ask], *, sound_weight: float) -> Tensor:
        """Return what the generator is told [N, D]; what several asks share is encoded once."""
        for ask in asks:
            if ask.text is not None or (ask.sound is None and ask.picture is None):
                raise SettingsError(f"{ask.key}: Sound2Scene paints sounds and pictures, no texts")
        sounds = {id(ask.sound): ask.sound for ask in asks if ask.sound is not None}
        pictures = {id(ask.picture): ask.picture for ask in asks if ask.picture is not None}
        z: dict[int, Tensor] = {}
        if sounds:
            fitted = [fit(sound, self.spec) for sound in sounds.values()]
            z |= zip(sounds, self.heard(fitted), strict=True)
        if pictures:
            images = [picture.image for picture in pictures.values()]
            z |= zip(pictures, self.seen(images), strict=True)
        rows: list[Tensor] = []
        for ask in asks:
            if ask.picture is None:
                rows.append(z[id(ask.sound)])
            elif ask.sound is None:
                rows.append(z[id(ask.picture)])
            else:
                rows.append(interpolated(z[id(ask.picture)], z[id(ask.sound)], sound_weight))
        return torch.stack(rows)

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
        named = sound or image
        if named is None:
            raise ValueError("give a sound, an image, or both")
        ask = Ask(key=named.name, sound=sound, picture=image)
        h = self._conditions([ask], sound_weight=sound_weight)[0]
        return self.draw(h, self.noise(named.name, n, seed), batch_size)

    def sound_map(self, fitted: NDArray[np.float32], target: Tensor | None) -> NDArray[np.float32]:
        """Return Grad-CAM [F, N] over the spectrogram, from the last stage of the audio ResNet.

        Of cos(z^A, target), or without a target of ‖z^A‖.
        """
        x = self.spectrogram(fitted)
        encoder = self.audio_encoder
        assert encoder is not None
        score = own_length if target is None else cosine_to(target)
        heat = grad_cam(encoder, encoder.trunk.layer4, x, score)[0]
        values: NDArray[np.float32] = heat.cpu().numpy()
        return values
