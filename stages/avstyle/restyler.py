"""AVStyle put together: what it keeps of a picture, what it hears or is told, what it draws.

Li et al., Learning Visual Styles from Audio-Visual Associations, ECCV 2022.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError, nearest
from avdata.frames import squash
from stages.avstyle.conditions import ClassVector
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
    """A generator in its two halves and what tells it of sounds, frozen and in evaluation mode.

    ear, frontend: a sound encoder and how it hears; or, of the baselines, what turns scores of
    classes into the vector, and None. resolution_px: the shorter side of its pictures. sources: of
    each part, its file and SHA-256.
    """

    generator: Generator
    ear: SoundEncoder | ClassVector
    frontend: Frontend | None
    resolution_px: int
    device: torch.device
    sources: Mapping[str, Mapping[str, str]]

    @property
    def spec(self) -> AudioSpec:
        """The front-end; raises SettingsError for a baseline, which hears nothing."""
        return self._frontend.spec

    @property
    def _frontend(self) -> Frontend:
        if self.frontend is None:
            raise SettingsError(
                "this generator was trained with a condition of classes or keywords and hears no "
                "sound: `stages.evaluate` scores it; to restyle, train with condition: sound"
            )
        return self.frontend

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of which a baseline is told; None: it hears."""
        return self.ear.names if isinstance(self.ear, ClassVector) else None

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
        return self._frontend.spectrogram(torch.from_numpy(fitted)[None].to(self.device))

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
        heard: Tensor = self.ear(self._frontend.spectrogram(fitted.to(self.device)))
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

    @torch.no_grad()
    def told(self, texts: Sequence[str]) -> Tensor:
        """Return the vectors [B, D] of scores by class, each {"Rain": 0.8, ...} as JSON.

        For baselines. Raises SettingsError for a class that it was not told of in training.
        """
        names = self.classes or ()
        scores = torch.zeros(len(texts), len(names))
        for row, text in zip(scores, texts, strict=True):
            for name, score in json.loads(text).items():
                if name not in names:
                    raise SettingsError(f"no class {name!r}: {nearest(name, names)}")
                row[names.index(name)] = score
        vectors: Tensor = self.ear(scores.to(self.device))
        return vectors

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return for each ask its picture, squashed to a square as in training, by its sound.

        Baselines take its text, see `told`. There is no noise: seed and numbers change nothing.
        What several asks share is seen and heard once.
        """
        means = "sound" if self.classes is None else "text"
        for ask in asks:
            if ask.picture is None or getattr(ask, means) is None:
                raise SettingsError(
                    f"{ask.key}: AVStyle restyles a picture by a {means}: it needs both"
                )
        side, pictures, given = self.resolution_px, _once(asks, "picture"), _once(asks, means)
        squares = [squash(picture.image, side, side) for picture in pictures.values()]
        parts = [slice(first, first + AT_ONCE) for first in range(0, len(squares), AT_ONCE)]
        content = torch.cat([self.content(np.stack(squares[some])) for some in parts])
        style = (self.style if means == "sound" else self.told)(list(given.values()))
        seen_at = {key: row for row, key in enumerate(pictures)}
        told_at = {key: row for row, key in enumerate(given)}
        return self.restyled(
            content[[seen_at[id(ask.picture)] for ask in asks]],
            style[[told_at[id(getattr(ask, means))] for ask in asks]],
        )


def _once(asks: Sequence[Ask], what: str) -> dict[int, Any]:
    return {id(getattr(ask, what)): getattr(ask, what) for ask in asks}
