"""Sound-guided manipulation put together: where a picture starts, where it goes, how it moves.

    model = load_model("runs/robust")
    images = model.paint([Ask(key="start", sound=rain, picture=view)], seed=0)  # [1, R, R, 3]

Lee et al., Robust Sound-Guided Image Manipulation, Neural Networks 2024.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from avdata.errors import SettingsError
from avdata.frames import squash
from avdata.strict import digest, to_tree
from stages.generation.inputs import Picture, Sound
from stages.generation.painter import Ask
from stages.generation.sounds import fit
from stages.nn.encoder import Encoder
from stages.nn.frontend import Frontend
from stages.nn.pictures import as_images, as_pictures
from stages.nn.sphere import angle_rad, interpolated, unit_norm
from stages.sound_guided.codes import LatentGenerator, Spread, noise_of, truncated
from stages.sound_guided.encoders import EmbeddedSounds
from stages.sound_guided.faces import require_faces
from stages.sound_guided.guidance import directions, guides, told
from stages.sound_guided.latent_optimisation import (
    Features,
    Moved,
    Search,
    Watch,
    nearest_start,
    optimise,
)
from stages.sound_guided.progress import steps_shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avdata.audio.spec import AudioSpec
    from stages.nn.sphere import Way
    from stages.sound_guided.embedder import SoundEmbedder
    from stages.sound_guided.inversion import Inverter

AT_ONCE, AT_PX = 16, 256  # pictures that are moved together, and the side up to which so many are


def at_once_at(resolution: int) -> int:
    """Return how many pictures of this side are moved together, so that their memory is bounded."""
    return min(AT_ONCE, max(1, AT_ONCE * AT_PX**2 // resolution**2))


class TextImageSpace(Protocol):
    """Pictures and texts in one space of unit vectors [B, D] (stages/text_image)."""

    name: str
    dim: int

    def fingerprint(self) -> dict[str, Any]: ...

    def seen(self, images: Tensor) -> Tensor: ...

    def pictures(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]: ...

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class Manipulator:
    """A generator, a space in which pictures and guidance meet, and a search, on one device.

    embedder: of sounds; None: texts and pictures guide alone. check_faces: refuse to hold an
    identity where there is no face. codes: saved starts [N, L, W] in the place of random ones.
    sources: of each part, its file and SHA-256.
    """

    generator: LatentGenerator
    space: TextImageSpace
    embedder: SoundEmbedder | None
    search: Search
    spread: Spread
    inverter: Inverter
    faces: Features | None = None
    check_faces: bool = True
    codes: Tensor | None = None
    device: torch.device
    sources: Mapping[str, Mapping[str, str]]
    at_once: int = AT_ONCE
    _found: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def resolution_px(self) -> int:
        """Side of its pictures."""
        return self.generator.resolution

    @property
    def _ear(self) -> SoundEmbedder:
        if self.embedder is None:
            raise SettingsError(
                "sounds need a sound encoder: finish train_sound_clip, or give --sound-clip; texts "
                "and pictures guide without one"
            )
        return self.embedder

    @property
    def spec(self) -> AudioSpec:
        """The front-end; raises SettingsError without a sound encoder."""
        return self._ear.spec

    @property
    def hears(self) -> tuple[int, float]:
        """Sample rate in Hz and seconds that it hears, as `read_sound` takes them."""
        return self.spec.sample_rate_hz, self.spec.n_samples / self.spec.sample_rate_hz

    @property
    def sound_encoder(self) -> Encoder:
        """Sounds in the space of pictures and texts."""
        return EmbeddedSounds(self._ear)

    @property
    def picture_encoder(self) -> Encoder:
        """Pictures in it: the judge is what guides, so it is no independent one."""
        assert isinstance(self.space, Encoder)
        return self.space

    def identity(self) -> dict[str, Any]:
        """Return what its pictures depend on: parts, search, where they start."""
        return {
            "weights": {part: source["sha256"] for part, source in self.sources.items()},
            "search": to_tree(self.search),
            "inverter": self.inverter.identity(),
            "codes": None if self.codes is None else digest(self.codes.tolist()),
        }

    @cached_property
    def _frontend(self) -> Frontend:
        return Frontend(self.spec).to(self.device)

    def spectrogram(self, fitted: NDArray[np.float32]) -> Tensor:
        """Return what the sound encoder sees, [1, 1, F, N], of fitted sound [n_samples]."""
        return self._frontend.spectrogram(torch.from_numpy(fitted)[None].to(self.device))

    @torch.no_grad()
    def heard(self, sounds: Sequence[Sound]) -> Tensor:
        """Return guidance [B, D] of sounds; raises SettingsError for one at another rate."""
        waves = torch.from_numpy(np.stack([fit(sound, self.spec) for sound in sounds]))
        return unit_norm(self._ear.embed(waves.to(self.device)).float())

    def told(self, texts: Sequence[str]) -> Tensor:
        """Return guidance [B, D] of texts; raises SettingsError for one that is too long."""
        return torch.from_numpy(self.space.texts(list(texts))).to(self.device)

    def shown(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Return guidance [B, D] of pictures [H, W, 3], each of any size."""
        return torch.from_numpy(self.space.pictures(list(pictures))).to(self.device)

    def latent(self, end: Sound | Picture) -> Tensor:
        """Return the guidance [D] of a sound or a picture."""
        return self.heard([end])[0] if isinstance(end, Sound) else self.shown([end.image])[0]

    def between(self, a: Tensor, b: Tensor, share: float, way: Way) -> tuple[Tensor, float]:
        """Return guidance [D] the share of the way from a to b, and its angle to a in rad."""
        direction = interpolated(a, b, share, way)
        return direction, angle_rad(a, direction)

    def noise(self, key: str, n: int, seed: int) -> Tensor:
        """Return z [n, Z] of the first n pictures of `key`."""
        drawn = [noise_of(self.generator, key, number, seed) for number in range(n)]
        return torch.stack(drawn).to(self.device)

    def draw(self, latents: Tensor, noise: Tensor) -> NDArray[np.uint8]:
        """Return pictures [n, R, R, 3] from noise z [n, Z] on, toward guidance, [D] or [n, D]."""
        guidance = latents.expand(len(noise), -1)
        starts = truncated(self.generator, noise, self.spread.mean, self.search.psi)
        return self.moved_pictures(guidance, starts)

    def paint(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return for each ask what its sound, its text, or both made of its start, [N, R, R, 3].

        It starts at the ask's picture, inverted, or else at noise keyed by key, number and seed; a
        picture without sound or text is what guides. Of both sound and text, the mean guides.
        """
        guidance = self.guidance(asks)
        return self.moved_pictures(guidance, self.starts(asks, seed, guidance))

    def before(self, asks: Sequence[Ask], seed: int) -> NDArray[np.uint8]:
        """Return what each ask starts from, [N, R, R, 3]: its picture, found again, or noise.

        Of several random starts, the one its sound or text chooses; without either, the first.
        """
        contents = [ask.picture for ask in asks]
        several = self.search.starts > 1
        directions = [self.guidance([ask])[0] if several and told(ask) else None for ask in asks]
        return self.pictures_of(self._starts(asks, contents, seed, directions))

    @torch.no_grad()
    def pictures_of(self, ws: Tensor) -> NDArray[np.uint8]:
        """Return the pictures uint8 [N, R, R, 3] of codes [N, L, W]."""
        parts = [
            as_images(self.generator.synthesis(some)) for some in torch.split(ws, self.at_once)
        ]
        return np.concatenate(parts)

    def moved_pictures(self, guidance: Tensor, starts: Tensor) -> NDArray[np.uint8]:
        """Return what guidance [N, D] makes of codes [N, L, W], as pictures [N, R, R, 3]."""
        return np.concatenate([as_images(own.pictures) for own in self._moves(guidance, starts)])

    def moved(self, guidance: Tensor, starts: Tensor, watch: Watch | None = None) -> Moved:
        """Return what guidance [N, D] makes of codes [N, L, W]; watch sees batch after batch."""
        parts = self._moves(guidance, starts, watch)
        return Moved(
            source=torch.cat([own.source for own in parts]),
            ws=torch.cat([own.ws for own in parts]),
            loss=torch.cat([own.loss for own in parts], dim=1),
            similarity=torch.cat([own.similarity for own in parts], dim=1),
            gate=torch.cat([own.gate for own in parts]),
            pictures=torch.cat([own.pictures for own in parts]),
        )

    def _moves(self, guidance: Tensor, starts: Tensor, watch: Watch | None = None) -> list[Moved]:
        if self.faces is not None and self.search.identity_weight and self.check_faces:
            require_faces(self.space, list(self.pictures_of(starts)))
        parts = (torch.split(given, self.at_once) for given in (guidance, starts))
        batches = list(zip(*parts, strict=True))
        with steps_shown("moving pictures", self.search.steps * len(batches)) as progress:
            return [
                optimise(
                    self.generator,
                    self.space.seen,
                    direction,
                    codes,
                    search=self.search,
                    spread=self.spread,
                    identity=self.faces,
                    watch=watch,
                    progress=progress,
                )
                for direction, codes in batches
            ]

    def guidance(self, asks: Sequence[Ask]) -> Tensor:
        """Return the direction of each ask, [N, D]; what several share is encoded once."""
        return directions(self, asks)

    def starts(self, asks: Sequence[Ask], seed: int, guidance: Tensor) -> Tensor:
        """Return where each ask starts, codes [N, L, W]; guidance [N, D] chooses the best of
        several random starts."""
        contents = [None if guides(ask) else ask.picture for ask in asks]
        return self._starts(asks, contents, seed, list(guidance))

    def _starts(
        self,
        asks: Sequence[Ask],
        contents: Sequence[Picture | None],
        seed: int,
        directions: Sequence[Tensor | None],
    ) -> Tensor:
        found = self._inverted([picture for picture in contents if picture is not None], seed)
        codes: list[Tensor] = []
        for ask, picture, direction in zip(asks, contents, directions, strict=True):
            if picture is not None:
                codes.append(found[_digest(picture)])
            elif self.codes is not None:
                codes.append(self._saved(ask.number))
            else:
                codes.append(self._random(ask, seed, direction))
        return torch.stack(codes)

    def _random(self, ask: Ask, seed: int, direction: Tensor | None) -> Tensor:
        n = self.search.starts
        keys = [ask.key] if n == 1 else [f"{ask.key}/start {number}" for number in range(n)]
        z = torch.stack([noise_of(self.generator, key, ask.number, seed) for key in keys])
        drawn = truncated(
            self.generator, z.to(self.device), self.spread.mean, self.search.psi
        )  # [n, L, W]
        if direction is None:
            return drawn[0]
        return nearest_start(self.generator, self.space.seen, direction[None], drawn[None])[0]

    def _saved(self, number: int) -> Tensor:
        assert self.codes is not None
        if number >= len(self.codes):
            raise SettingsError(
                f"--codes holds {len(self.codes)} codes, picture {number + 1} was asked for: give "
                f"-n {len(self.codes)}, or more codes"
            )
        return self.codes[number].to(self.device)

    def inverted(self, pictures: Sequence[Picture], seed: int) -> Tensor:
        """Return the codes [N, L, W] of pictures of any size, squashed to squares."""
        found = self._inverted(pictures, seed)
        return torch.stack([found[_digest(picture)] for picture in pictures])

    def _inverted(self, pictures: Sequence[Picture], seed: int) -> dict[str, Tensor]:
        """Return the codes of pictures by digest; each is searched once."""
        wanted = {_digest(picture): picture for picture in pictures}
        new = [key for key in wanted if f"{seed}/{key}" not in self._found]
        side = self.resolution_px
        for first in range(0, len(new), self.at_once):
            keys = new[first : first + self.at_once]
            squares = np.stack([squash(wanted[key].image, side, side) for key in keys])
            codes = self.inverter.invert(as_pictures(squares, self.device), keys, seed)
            self._found.update(
                (f"{seed}/{key}", code) for key, code in zip(keys, codes, strict=True)
            )
        return {key: self._found[f"{seed}/{key}"] for key in wanted}


def _digest(picture: Picture) -> str:
    content = np.ascontiguousarray(picture.image)
    return hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()
