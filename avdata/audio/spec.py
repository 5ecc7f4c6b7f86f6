"""How each model sees sound: an audio front-end is data, an `AudioSpec`.

Checkpoints, shards and exported models carry it as JSON, and `require_same` refuses to feed a model
what it was not trained on. avdata/audio/spectrograms.py computes them all.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields, replace
from typing import Literal

from avdata.errors import SettingsError
from avdata.parsing import parse_json
from avdata.strict import build, to_tree

MAX_NUMBER = 10**8  # an hour and a half at 16 kHz has fewer samples
MAX_SIDE_PX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSpec:
    """One audio front-end; every field changes what a model sees."""

    name: str
    sample_rate_hz: int
    n_samples: int  # sound is cut to this length, or filled up to it
    fill: Literal["tile", "zeros"]
    peak_headroom: float | None = None  # divide by this times the peak; None: keep the level
    clip: bool = False  # clip to [-1, 1] what a volume edit made louder than full scale
    n_fft: int
    window: Literal["hann", "tukey"]  # periodic; Tukey tapers a quarter (0.25)
    window_length: int  # at most n_fft; the rest is zeros
    hop: int
    edges: Literal["none", "reflect", "zeros"]  # what lies n_fft // 2 before and after the sound
    quantity: Literal["density", "power", "magnitude"]  # density: of centred segments, V^2 / Hz
    mel: Literal["none", "htk", "slaney"] = "none"
    n_mels: int = 0
    mel_low_hz: float = 0.0
    mel_high_hz: float = 0.0
    log: Literal["none", "natural", "decibel"] = "none"
    log_offset: float = 0.0  # natural: log(x + offset); decibel: x is at least this
    db_reference: float | None = None  # decibel: the power that becomes 1; None: the clip's maximum
    db_range: float = 80.0  # decibel: what lies this far below the reference becomes 0
    standardise: bool = False  # (x - mean) / (std + 1e-9) over the clip
    n_frames: int | None = None  # cut, or fill with zeros, to this many columns
    resize_px: int | None = None  # bilinear, to a square

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # A file may hold any number: what it asks for is computed, and takes memory.
            if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
                raise ValueError(f"{self.name}: {field.name} must be a usual number, got {value}")
        if min(self.sample_rate_hz, self.n_frames or 1, self.resize_px or 1) < 1 or self.n_mels < 0:
            raise ValueError(f"{self.name}: rates, frames, bands and sizes must be positive")
        if (self.resize_px or 1) > MAX_SIDE_PX:
            raise ValueError(f"{self.name}: resize_px is at most {MAX_SIDE_PX}")
        if not 0 < self.window_length <= self.n_fft or self.hop < 1:
            raise ValueError(f"{self.name}: hop must be positive, window_length in 1..n_fft")
        if self.n_samples < (self.window_length if self.edges == "none" else self.n_fft):
            raise ValueError(f"{self.name}: n_samples {self.n_samples} is shorter than a window")
        if (self.mel == "none") != (self.n_mels == 0):
            raise ValueError(f"{self.name}: n_mels goes with mel, got {self.n_mels}, {self.mel}")
        if self.mel != "none" and not (
            0 <= self.mel_low_hz < self.mel_high_hz <= self.sample_rate_hz / 2
        ):
            raise ValueError(f"{self.name}: mel bands must lie between 0 and sample_rate_hz / 2")

    def to_json(self) -> str:
        """Return the description as one line of JSON."""
        return json.dumps(to_tree(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> AudioSpec:
        """Rebuild a description; raises SettingsError for anything else."""
        try:
            tree = parse_json(text)
        except ValueError as error:
            raise SettingsError(f"not an audio front-end: {error}") from None
        if isinstance(tree, dict):
            needed = [f.name for f in fields(cls) if f.default is MISSING]
            if missing := [name for name in needed if name not in tree]:
                raise SettingsError(f"audio front-end: {', '.join(missing)} missing")
        return build(cls, tree, "audio front-end")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of `features`: channels (1), bands, frames."""
        if self.resize_px is not None:
            return 1, self.resize_px, self.resize_px
        length = self.n_samples + (0 if self.edges == "none" else self.n_fft // 2 * 2)
        segment = self.window_length if self.edges == "none" else self.n_fft
        frames = self.n_frames or 1 + (length - segment) // self.hop
        return 1, self.n_mels or self.n_fft // 2 + 1, frames


SOUND2SCENE = AudioSpec(
    name="sound2scene",
    sample_rate_hz=16000,
    n_samples=160000,
    fill="tile",
    clip=True,
    n_fft=512,
    window="tukey",
    window_length=512,
    hop=159,
    edges="none",
    quantity="density",
    log="natural",
    log_offset=1e-7,
    standardise=True,
)
"""Sound2Scene: log power spectral density, [1, 257, 1004] for 10 s. The level of a sound survives
the standardisation only through the offset and the clipping: both are part of the model."""

AVSTYLE = AudioSpec(
    name="avstyle",
    sample_rate_hz=16000,
    n_samples=48000,
    fill="tile",
    peak_headroom=1.1,
    n_fft=512,
    window="hann",
    window_length=400,
    hop=160,
    edges="reflect",
    quantity="magnitude",
)
"""AVStyle: linear STFT magnitude, [1, 257, 301] for 3 s."""

SOUND_GUIDED = AudioSpec(
    name="sound_guided",
    sample_rate_hz=44100,
    n_samples=441000,
    fill="zeros",
    n_fft=2048,
    window="hann",
    window_length=2048,
    hop=512,
    edges="zeros",
    quantity="power",
    mel="slaney",
    n_mels=128,
    mel_high_hz=22050.0,
    log="decibel",
    log_offset=1e-10,
    db_reference=1e4,
    n_frames=864,
    resize_px=224,
)
"""Sound-guided CLIP: 128 mel bands in decibels, [1, 224, 224] in [0, 1] for 10 s. The reference is
fixed, slightly above a full-scale sine, so that a quieter sound stays quieter."""

SOUND_GUIDED_RELATIVE = replace(SOUND_GUIDED, name="sound_guided_relative", db_reference=None)
"""The same relative to each clip's own maximum, which erases its level."""

YAMNET = AudioSpec(
    name="yamnet",
    sample_rate_hz=16000,
    n_samples=15600,
    fill="zeros",
    n_fft=512,
    window="hann",
    window_length=400,
    hop=160,
    edges="none",
    quantity="magnitude",
    mel="htk",
    n_mels=64,
    mel_low_hz=125.0,
    mel_high_hz=7500.0,
    log="natural",
    log_offset=1e-3,
)
"""YAMNet: 64 log mel bands, [1, 64, 96] for its window of 0.975 s."""

LOCALIZER = AudioSpec(
    name="localizer",
    sample_rate_hz=16000,
    n_samples=160000,
    fill="zeros",
    n_fft=512,
    window="hann",
    window_length=400,
    hop=160,
    edges="none",
    quantity="power",
    mel="htk",
    n_mels=64,
    mel_low_hz=60.0,
    mel_high_hz=7800.0,
    log="natural",
    log_offset=1e-6,
)
"""The sound-source localizer: 64 log mel bands of the power, [1, 64, 998] for 10 s."""

OPENL3 = AudioSpec(
    name="openl3",
    sample_rate_hz=48000,
    n_samples=48000,
    fill="zeros",
    n_fft=512,
    window="hann",
    window_length=512,
    hop=242,
    edges="none",
    quantity="magnitude",
    log="decibel",
    log_offset=1e-10,
)
"""OpenL3, linear: the magnitude as if it were a power, in decibels, [1, 257, 197] for 1 s. Its own
range is 0 at the window's maximum to -80, this one's 1 to 0."""

AVC = replace(LOCALIZER, name="avc", n_samples=48000, fill="tile")
"""Audio-visual correspondence: as the localizer, of 3 s, [1, 64, 298]."""

SPECS = {
    spec.name: spec
    for spec in (
        *(SOUND2SCENE, AVSTYLE, SOUND_GUIDED, SOUND_GUIDED_RELATIVE),
        *(YAMNET, LOCALIZER, OPENL3, AVC),
    )
}


def require_same(expected: AudioSpec, found: AudioSpec, what: str) -> None:
    """Raise SettingsError, naming every difference, unless both see sound in the same way."""
    differences = [
        f"{f.name} is {getattr(found, f.name)!r}, expected {getattr(expected, f.name)!r}"
        for f in fields(AudioSpec)
        if f.name != "name" and getattr(found, f.name) != getattr(expected, f.name)
    ]
    if differences:
        raise SettingsError(
            f"{what} has another audio front-end ({found.name}, expected {expected.name}): "
            + "; ".join(differences)
        )
