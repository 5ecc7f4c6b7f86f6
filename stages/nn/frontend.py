"""The audio front-ends on the device: the same `AudioSpec`, the same numbers, in batches.

Mirrors avdata/audio/spectrograms.py, which says what each field means; a training step computes its
spectrograms where the model is, so that the loader hands over 16-bit sound alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avdata.audio import spectrograms
from avdata.audio.spec import AudioSpec


class Frontend(nn.Module):
    """Mono sound [B, n] in [-1, 1) at the spec's rate → float32 [B, *spec.shape].

    int16 sound, as the loader hands it over, is divided by 32768. As in numpy, spectra are computed
    in float64, whatever the precision of the training.
    """

    window: Tensor  # [segment]
    mel: Tensor  # [n_fft // 2 + 1, n_mels]

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        # Not part of checkpoints, which carry the spec itself.
        window = torch.tensor(spectrograms.window(spec))
        self.register_buffer("window", window, persistent=False)
        mel = torch.tensor(spectrograms.mel_filters(spec) if spec.mel != "none" else [])
        self.register_buffer("mel", mel, persistent=False)

    @torch.no_grad()
    def forward(self, sound: Tensor) -> Tensor:
        """Cut or fill up to n_samples, then `spectrogram`."""
        return self.spectrogram(self.fit_samples(sound))

    def fit_samples(self, sound: Tensor) -> Tensor:
        """Return [B, n_samples] float32: cut or filled up, peak normalised if the spec says so."""
        spec = self.spec
        if sound.dtype == torch.int16:
            sound = sound.float() / 32768
        length = sound.shape[1]
        if 0 < length < spec.n_samples and spec.fill == "tile":
            sound = sound.repeat(1, -(-spec.n_samples // length))
        sound = sound[:, : spec.n_samples].float()
        sound = F.pad(sound, (0, spec.n_samples - sound.shape[1]))
        if spec.peak_headroom is not None:
            peak = sound.abs().amax(dim=1, keepdim=True)
            sound = sound / (spec.peak_headroom * peak).masked_fill(peak == 0, 1)
        return sound

    def spectrogram(self, sound: Tensor) -> Tensor:
        """Return [B, *spec.shape] of fitted sound [B, n_samples]; differentiable."""
        spec = self.spec
        with torch.autocast(sound.device.type, enabled=False):
            if spec.clip:
                sound = sound.clamp(-1, 1)
            image = self._spectrum(sound.double())  # [B, bands, frames]
            if spec.mel != "none":
                image = self.mel.T @ image
            if spec.log == "natural":
                image = torch.log(image + spec.log_offset)
            elif spec.log == "decibel":
                image = self._decibels(image)
            if spec.standardise:
                image = _standardised(image)
            if spec.n_frames is not None:
                image = F.pad(image, (0, spec.n_frames - image.shape[2]))
            image = image[:, None]
            if spec.resize_px is not None:
                size = (spec.resize_px, spec.resize_px)
                image = F.interpolate(image, size, mode="bilinear", align_corners=False)
            return image.float()

    def _spectrum(self, sound: Tensor) -> Tensor:
        """Return the magnitude, power or power spectral density, [B, n_fft // 2 + 1, frames]."""
        spec = self.spec
        if spec.edges != "none":
            mode = "reflect" if spec.edges == "reflect" else "constant"
            sound = F.pad(sound, (spec.n_fft // 2, spec.n_fft // 2), mode)
        segments = sound.unfold(1, len(self.window), spec.hop)  # [B, frames, segment]
        if spec.quantity == "density":
            segments = segments - segments.mean(dim=2, keepdim=True)
        spectrum = torch.fft.rfft(segments * self.window, spec.n_fft).transpose(1, 2)
        if spec.quantity == "magnitude":
            magnitude: Tensor = spectrum.abs()
            return magnitude
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        if spec.quantity == "density":
            power = power / (spec.sample_rate_hz * self.window.square().sum())
            # One-sided: all but 0 Hz and the Nyquist frequency count twice.
            inner = slice(1, (spec.n_fft + 1) // 2)
            power = torch.cat([power[:, :1], 2 * power[:, inner], power[:, inner.stop :]], dim=1)
        return power

    def _decibels(self, power: Tensor) -> Tensor:
        """Return 1 at the reference, 0 at db_range below it; silence is 0 throughout."""
        spec = self.spec
        loudest = power.amax(dim=(1, 2), keepdim=True)
        reference = (
            loudest if spec.db_reference is None else torch.full_like(loudest, spec.db_reference)
        )
        ratio = power.clamp(min=spec.log_offset) / reference.clamp(min=spec.log_offset)
        decibels = (1 + 10 * ratio.log10() / spec.db_range).clamp(0, 1)
        return torch.where(loudest == 0, 0.0, decibels)


def _standardised(image: Tensor) -> Tensor:
    """Return (x - mean) / (std + 1e-9) over each clip, taken relative to one value as in numpy."""
    image = image - image[:, :1, :1]
    mean = image.mean(dim=(1, 2), keepdim=True)
    std = image.std(dim=(1, 2), correction=0, keepdim=True)
    return (image - mean) / (std + 1e-9)
