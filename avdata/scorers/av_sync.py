"""Training-free match of sound and sight: onsets against motion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from avdata import frames
from avdata.scorers.base import ScoredClip, Scores
from avdata.scorers.transitions import transitions

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_S = 0.032
HOP_S = 0.01
BLOCK_STEPS = 1000
COMPRESSION = 100.0  # of the magnitude spectrum, where a full-scale sine has magnitude 0.5
THUMBNAIL_PX = 32
TOLERANCE_S = 0.1  # sound and sight closer than this are seen as one event (ITU-R BT.1359)


class AvSync:
    """Scores a frame by how strongly sound and motion peak together at its time.

    With candidate frames at times t_0 < ... < t_{T-1} and grey thumbnails g_i in [0, 255]:

        motion       M_i = log(1 + mean|g_i - g_{i-1}| / (t_i - t_{i-1}))
        onset        O(t), see `onset_strength`
        sound        A_i = sum_n w_i(n) O(n) / sum_n w_i(n),
                     w_i triangular around t_i, half as wide as max(t_i - t_{i-1}, 0.1 s) each side
        frame score  s_i = min(z(A)_i, z(M)_i)
        clip         av_sync = Pearson r of (A_i, M_i), av_sync_max = max_i s_i

    z subtracts the mean and divides by the standard deviation (all 0 if constant). A frame is as
    good as the weaker of the two, so stillness in silence is no match. Dividing by the gap makes
    unevenly spaced frames fair. r is 0 when either curve is constant.

    The first frame, which has no picture before it, moves as the step to the second says; so does
    the first frame after a transition (see `transitions`), whose own step is no motion. A frame
    between two steps of transitions, inside a dissolve say, is not picked, unless all are so; means
    and deviations are taken without it.
    """

    name: ClassVar[str] = "av_sync"
    measures: ClassVar[tuple[str, ...]] = ("av_sync", "av_sync_max")
    uses_seed: ClassVar[bool] = False

    def fingerprint(self) -> dict[str, Any]:
        return {}

    def score(self, clip: ScoredClip) -> Scores:
        onsets = onset_strength(clip.sound, clip.media.sample_rate_hz)
        n_frames = len(clip.times_s)
        frame_scores, agreement, best = np.zeros(n_frames), 0.0, 0.0
        known = np.zeros(n_frames, bool)
        if n_frames > 1:
            gaps_s = np.maximum(np.diff(clip.times_s), 0.001)  # a sparse video may repeat a frame
            thumbnails = np.stack(frames.of_one_size(clip.images(THUMBNAIL_PX)))
            moves = ~transitions(thumbnails, clip.times_s)  # [T - 1], of each step
            steps = _steps(moves)  # [T]
            known = moves[steps]
            motion = motion_energy(thumbnails, gaps_s)[steps]
            sound = _at_frames(onsets, clip.times_s, np.maximum(gaps_s[steps], TOLERANCE_S))
        if known.any():
            z_sound, z_motion = _standardised(sound[known]), _standardised(motion[known])
            weaker = np.minimum(z_sound, z_motion)
            frame_scores[:] = weaker.min()
            frame_scores[known] = weaker
            agreement, best = float(np.mean(z_sound * z_motion)), float(weaker.max())
        return Scores(
            frame_scores,
            pickable=known if known.any() else None,
            measures={"av_sync": agreement, "av_sync_max": best},
        )


def _steps(moves: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return for each frame [T] the step [T - 1] that tells its motion: the one into it, or, where
    there is none or it is no motion, the one out of it."""
    frame = np.arange(len(moves) + 1)
    into, out = np.maximum(frame - 1, 0), np.minimum(frame, len(moves) - 1)
    return np.where(moves[into] & (frame > 0), into, out)


def onset_strength(sound: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the onset strength [N] of mono sound in [-1, 1), one value per 10 ms from time 0.

    Half-wave-rectified spectral flux of the log-compressed magnitude spectrum (S. Dixon, Onset
    detection revisited, DAFx 2006):

        O(n) = mean_k max(0, Y(n, k) - Y(n-1, k)),   Y = log(1 + 100 |X|)

    X is the short-time spectrum in 32-ms Hann windows centred on n * 10 ms, divided by the sum of
    the window. Within 26 ms of the ends, where a window reaches out of the sound, O is NaN: a cut
    through a sound is no onset.
    """
    n_fft = round(WINDOW_S * sample_rate_hz)
    hop = HOP_S * sample_rate_hz
    padded = np.pad(sound, (n_fft // 2, n_fft))
    starts = np.round(np.arange(int(len(sound) / hop) + 1) * hop).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)
    hann = np.hanning(n_fft).astype(np.float32)
    hann /= hann.sum()
    flux = np.full(len(starts), np.nan)
    for first in range(0, len(starts), BLOCK_STEPS):  # long clips in bounded memory
        block = windows[starts[max(0, first - 1) : first + BLOCK_STEPS]]
        level = np.log1p(COMPRESSION * np.abs(np.fft.rfft(block * hann, axis=1)))
        rise = np.maximum(np.diff(level, axis=0), 0).mean(axis=1)
        flux[max(1, first) : first + BLOCK_STEPS] = rise
    whole = (starts >= n_fft // 2) & (starts + n_fft - n_fft // 2 <= len(sound))
    flux[~whole] = np.nan
    flux[1:][~whole[:-1]] = np.nan
    return flux


def motion_energy(
    thumbnails: NDArray[np.uint8], gaps_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log(1 + mean absolute change of grey level per second) over each step [T - 1].

    thumbnails: RGB [T, height, width, 3].
    """
    change = np.abs(np.diff(thumbnails.mean(axis=3), axis=0)).mean(axis=(1, 2))
    energy: NDArray[np.float64] = np.log1p(change / gaps_s)
    return energy


def _at_frames(
    curve: NDArray[np.float64], times_s: NDArray[np.float64], reach_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean of `curve` around each time, weighted by a triangle of that reach; 0 where
    nothing is known of it."""
    means = np.zeros(len(times_s))
    for i, (time_s, reach) in enumerate(zip(times_s, reach_s, strict=True)):
        first = max(0, int((time_s - reach) / HOP_S))
        last = int((time_s + reach) / HOP_S) + 1
        near = curve[first : last + 1]
        distance_s = np.abs(np.arange(first, first + len(near)) * HOP_S - time_s)
        weights = np.maximum(0, 1 - distance_s / reach) * np.isfinite(near)
        if weights.sum() > 0:  # else the frame lies after the end of the sound
            means[i] = weights @ np.nan_to_num(near) / weights.sum()
    return means


def _standardised(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = curve.std()
    if spread < 1e-9:
        return np.zeros_like(curve)
    standardised: NDArray[np.float64] = (curve - curve.mean()) / spread
    return standardised
