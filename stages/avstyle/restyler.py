"""AVStyle put together: what it keeps of a picture, what it hears, what it draws.

Li et al., Learning Visual Styles from Audio-Visual Associations, ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError
from avdata.frames import squash
from stages.avstyle.encoders import HeardEncoder
from stages.avstyle.generator import SIDE_STEP_PX, Generator
from stages.avstyle.sound_encoder import SoundEncoder
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask
from stages.generation.sounds import amplitude, fit, together
from stages.nn.encoder import Encoder
from stages.nn.frontend import Frontend
from stages.nn.pictures import as_images, as_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 4  # times the shorter side; what is longer is squashed, or it might need any memory
AT_ONCE = 8  # pictures


@dataclass(frozen=True, kw_only=True)
class Restyler:
    """A generator in its two halves and a sound encoder, frozen and in evaluation mode.

    resolution_px: the shorter side of its pictures. sources: of each part, its file and SHA-256.
    """

    generator: Generator
    ear: SoundEncoder
    frontend: Frontend
    resolution_px: int
    device: torch.device
    sources: Mapping[str, Mapping[str, str]]

    @property
    def spec(self) -> AudioSpec:
        """The front-end."""
        return self.frontend.spec

    @property
    def hears(self) -> tuple[int, float]:
        """Sample rate in Hz and seconds that it hears, as `read_sound` takes them."""
        return self.spec.sample_rate_hz, self.spec.n_samples / self.spec.sample_rate_hz

    @property
    def sound_encoder(self) -> Encoder:
        """What it is told of sounds."""
        return HeardEncoder(self)

    def identity(self) -> dict[str, Any]:
        """Return what its pictures depend on: the weights of both parts, and their side."""
        weights = {part: source["sha256"] for part, source in self.sources.items()}
        return {"weights": weights, "resolution_px": self.resolution_px}

    def spectrogram(self, fitted: NDArray[np.float32]) -> Tensor:
        """Return what the sound encoder sees, [1, 1, F, N], of fitted sound [n_samples]."""
        return self.frontend.spectrogram(torch.from_numpy(fitted)[None].to(self.device))

    def sized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a picture [H, W, 3] of any size as it is drawn anew, [h, w, 3].

        It keeps its shape: the shorter side becomes resolution_px, the longer one the nearest
        multiple of 4, and at most four times as long.
        """
        height, width = image.shape[:2]
        longer = min(max(height, width) / min(height, width), LONGEST) * self.resolution_px
        long_px = round(longer / SIDE_STEP_PX) * SIDE_STEP_PX
        size = (long_px, self.resolution_px) if width > height else (self.resolution_px, long_px)
        return np.array(squash(image, *size))

    @torch.no_grad()
    def content(self, images: NDArray[np.uint8]) -> Tensor:
        """Return features [B, C, h / 4, w / 4] of sized pictures [B, h, w, 3]."""
        x = as_pictures(np.ascontiguousarray(images), self.device)
        features: Tensor = self.generator.content(x)
        return features

    @torch.no_grad()
    def style(self, sounds: Sequence[Sound]) -> Tensor:
        """Return what is heard [B, D] in sounds; raises SettingsError for one at another rate.

        A sound is fitted first: tiled or cut to the front-end's 3 s, its peak normalised, unless
        it is fitted already. Silence stays silence.
        """
        fitted = torch.from_numpy(np.stack([fit(sound, self.spec) for sound in sounds]))
        heard: Tensor = self.ear(self.frontend.spectrogram(fitted.to(self.device)))
        return heard

    @torch.no_grad()
    def restyled(self, content: Tensor, style: Tensor) -> NDArray[np.uint8]:
        """Return pictures [B, h, w, 3] of features [B, C, h / 4, w / 4] and what is heard [B, D].

        Either may be one for all of the other.
        """
        n = max(len(content), len(style))
        content, style = (x.expand(n, *x.shape[1:]) for x in (content, style))
        parts = [slice(first, first + AT_ONCE) for first in range(0, n, AT_ONCE)]
        drawn = [as_images(self.generator.drawing(content[some], style[some])) for some in parts]
        pictures: NDArray[np.uint8] = np.concatenate(drawn)
        return pictures

    def restyle(self, picture: Picture, sound: Sound, *, gain_db: float = 0.0) -> NDArray[np.uint8]:
        """Return a picture [h, w, 3] in the style of a sound, its own shape kept.

        gain_db: of the sound, after its peak was normalised.
        """
        louder = together([sound], [amplitude(gain_db)], self.spec)
        content = self.content(self.sized(picture.image)[None])
        return np.array(self.restyled(content, self.style([louder]))[0])

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return for each ask its picture, squashed to a square as in training, by its sound.

        There is no noise: seed and numbers change nothing. What several asks share is seen and
        heard once.
        """
        for ask in asks:
            if ask.picture is None or ask.sound is None or ask.text is not None:
                raise SettingsError(
                    f"{ask.key}: AVStyle restyles a picture by a sound: it needs both, and no text"
                )
        side, pictures, sounds = self.resolution_px, _once(asks, "picture"), _once(asks, "sound")
        squares = [squash(picture.image, side, side) for picture in pictures.values()]
        parts = [slice(first, first + AT_ONCE) for first in range(0, len(squares), AT_ONCE)]
        content = torch.cat([self.content(np.stack(squares[some])) for some in parts])
        heard = self.style(list(sounds.values()))
        seen_at = {key: row for row, key in enumerate(pictures)}
        heard_at = {key: row for row, key in enumerate(sounds)}
        return self.restyled(
            content[[seen_at[id(ask.picture)] for ask in asks]],
            heard[[heard_at[id(ask.sound)] for ask in asks]],
        )


def _once(asks: Sequence[Ask], what: str) -> dict[int, Any]:
    return {id(getattr(ask, what)): getattr(ask, what) for ask in asks}
