"""One clip as the report shows it: sound, picks, neighbours, tags, player."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avdata import audio, frames
from avdata.clip import Clip, Media, Selection
from avdata.cores import cores
from avdata.errors import ClipError, StoreError
from avdata.media_tar import read_member
from avdata.report import pictures
from avdata.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPECTROGRAM_PX = (720, 160)
ENVELOPE_COLUMNS = 360
PICK_SIDE_PX = 400
THUMB_SIDE_PX = 132
MAX_THUMBS = 8
PLAYER_RATE_HZ = 16_000
TOP_TAGS = 4


@dataclass(frozen=True)
class Tag:
    name: str
    score: float  # in [0, 1]


@dataclass(frozen=True)
class Mark:
    """Something at a place along an axis."""

    percent: float
    text: str


@dataclass(frozen=True)
class HeardPanel:
    duration_s: float
    spectrogram: str  # data URI
    envelope: str  # SVG path, 0 to ENVELOPE_COLUMNS wide, -1 to 1 high, scaled to the peak
    time_ticks: tuple[Mark, ...]
    frequency_ticks: tuple[Mark, ...]  # percent from the bottom
    player: str  # data URI
    played_s: float  # how much of it the player has


@dataclass(frozen=True)
class Thumb:
    t_s: float
    percent: float  # of the clip's duration
    rank: int  # 1 for the best pick, 0 when not picked
    score: float | None
    picture: str  # data URI


@dataclass(frozen=True)
class SeenPanel:
    picture: str  # data URI of the best pick (of the middle frame where nothing was picked)
    width: int
    height: int
    heat: str  # data URI of its localisation map, or ""
    thumbs: tuple[Thumb, ...]

    @property
    def picks(self) -> tuple[Thumb, ...]:
        return tuple(t for t in self.thumbs if t.rank)


@dataclass(frozen=True)
class Card:
    """All that the template needs for one clip."""

    clip: Clip
    link: str  # an http(s) URL, or ""
    tags: tuple[Tag, ...]
    sound: HeardPanel | None
    sight: SeenPanel | None
    problem: str  # why the media cannot be shown, or ""

    @property
    def bytes(self) -> int:
        sound = len(self.sound.spectrogram) + len(self.sound.player) if self.sound else 0
        if not self.sight:
            return sound
        thumbs = sum(len(t.picture) for t in self.sight.thumbs)
        return sound + thumbs + len(self.sight.picture) + len(self.sight.heat)


def make_cards(
    store: Store, clips: Sequence[Clip], class_names: Sequence[str], budget_bytes: int
) -> Iterator[Card]:
    """Make a card per clip; pictures and sounds of all of them stay within the budget.

    Each clip may use an equal share; the pictures take what they need (some 60 kB) and a sound too
    long for the rest is cut. Several cards are drawn at once.
    """
    share = budget_bytes // max(1, len(clips))
    with ThreadPoolExecutor(cores(), "card") as pool:
        yield from pool.map(lambda clip: make_card(store, clip, class_names, share), clips)


def make_card(store: Store, clip: Clip, class_names: Sequence[str], budget_bytes: int) -> Card:
    """Read one clip's media and draw it; media that cannot be read are named, never fatal."""
    tags = top_tags(clip, class_names, TOP_TAGS)
    sound, sight, problem = None, None, ""
    try:
        if clip.media:
            sight = make_sight(store, clip.media, clip.selection)
            used = Card(clip, "", tags, None, sight, "").bytes
            sound = make_sound(store, clip.media, budget_bytes - used)
    except (ClipError, OSError, StoreError) as error:
        problem = f"its media cannot be read: {error}"
    return Card(clip, http_link(clip.url), tags, sound, sight, problem)


def top_tags(clip: Clip, class_names: Sequence[str], count: int) -> tuple[Tag, ...]:
    """Return the strongest YAMNet classes by mean score, best first."""
    order = sorted(range(len(clip.class_scores)), key=lambda i: -clip.class_scores[i])[:count]
    return tuple(Tag(class_name(class_names, i), clip.class_scores[i]) for i in order)


def class_name(class_names: Sequence[str], index: int) -> str:
    return class_names[index] if index < len(class_names) else f"class {index}"


def http_link(url: str) -> str:
    """Return the URL if a browser may safely open it, else an empty text."""
    return url if url.lower().startswith(("http://", "https://")) else ""


def make_sound(store: Store, media: Media, budget_bytes: int) -> HeardPanel | None:
    """Draw the sound and encode it for the player; None for a clip without samples."""
    samples, rate_hz = audio.decode(read_member(store, media.path, media.audio))
    if not len(samples):
        return None
    spectrogram = pictures.spectrogram_image(samples, rate_hz, *SPECTROGRAM_PX)
    drawn = data_uri("image/webp", pictures.encoded(spectrogram, "WEBP"))
    player, played_s = encode_player(samples, rate_hz, budget_bytes - len(drawn))
    duration_s = len(samples) / rate_hz
    return HeardPanel(
        duration_s=duration_s,
        spectrogram=drawn,
        envelope=envelope_path(samples),
        time_ticks=time_ticks(duration_s),
        frequency_ticks=frequency_ticks(rate_hz),
        player=player,
        played_s=played_s,
    )


def encode_player(samples: NDArray[np.int16], rate_hz: int, budget_bytes: int) -> tuple[str, float]:
    """Return FLAC of at most 16 kHz as a data URI, cut to the budget, and its length in seconds."""
    if rate_hz > PLAYER_RATE_HZ:
        from scipy.signal import resample_poly

        shared = int(np.gcd(PLAYER_RATE_HZ, rate_hz))
        resampled = resample_poly(
            samples.astype(np.float32), PLAYER_RATE_HZ // shared, rate_hz // shared
        )
        samples, rate_hz = np.clip(resampled, -32768, 32767).astype(np.int16), PLAYER_RATE_HZ
    while len(samples) >= rate_hz // 2:
        uri = data_uri("audio/flac", audio.encode(samples, rate_hz, "flac"))
        if len(uri) <= budget_bytes:
            return uri, len(samples) / rate_hz
        samples = samples[: int(len(samples) * min(0.9, max(0.1, budget_bytes / len(uri))))]
    return "", 0.0


def envelope_path(samples: NDArray[np.int16]) -> str:
    """Return the waveform's outline as an SVG path; positive is up."""
    pairs = pictures.envelope(samples, ENVELOPE_COLUMNS)
    columns = np.arange(ENVELOPE_COLUMNS) + 0.5
    points = [*zip(columns, -pairs[:, 1], strict=True), *zip(columns, -pairs[:, 0], strict=True)]
    outline = points[:ENVELOPE_COLUMNS] + points[ENVELOPE_COLUMNS:][::-1]
    return "M" + "L".join(f"{x:g} {y:.2f}" for x, y in outline) + "Z"


def time_ticks(duration_s: float) -> tuple[Mark, ...]:
    """Return round seconds along the clip, four to seven of them, the unit at the last."""
    steps = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
    step = next((s for s in steps if duration_s / s <= 6), 1800)
    values = [n * step for n in range(int(duration_s / step + 1e-6) + 1)]
    # A last label closer than half a step to the end would be cut off there.
    return tuple(Mark(100 * v / duration_s, f"{v:g} s") for v in values if v < duration_s * 0.97)


def frequency_ticks(rate_hz: int) -> tuple[Mark, ...]:
    """Return frequencies in kHz along the mel axis of the spectrogram."""
    top = float(pictures.mel(rate_hz / 2))
    marks = [(float(pictures.mel(f)) / top, f) for f in (500, 1000, 2000, 4000, 8000, 16000)]
    return tuple(Mark(100 * place, f"{f / 1000:g}") for place, f in marks if place < 0.95)


def make_sight(store: Store, media: Media, selection: Selection | None) -> SeenPanel | None:
    """Draw the best pick with its localisation map, and a strip of the candidates."""
    if not media.frames:
        return None
    ranks = {index: n + 1 for n, index in enumerate(selection.picks if selection else ())}
    scores = selection.frame_scores if selection else ()
    best = min(ranks, key=lambda i: ranks[i], default=len(media.frames) // 2)
    shown = neighbours(len(media.frames), sorted(ranks), MAX_THUMBS)
    images = {
        i: frames.decode_jpeg(
            read_member(store, media.path, media.frames[i]),
            PICK_SIDE_PX if i == best else THUMB_SIDE_PX,
        )
        for i in {*shown, best}
    }
    picture = pictures.thumbnail(images[best], PICK_SIDE_PX)
    duration_s = media.n_samples / media.sample_rate_hz or 1.0
    thumbs = tuple(
        Thumb(
            t_s=media.frames[i].t_s,
            percent=100 * min(1.0, media.frames[i].t_s / duration_s),
            rank=ranks.get(i, 0),
            score=scores[i] if i < len(scores) else None,
            picture=jpeg_uri(images[i], THUMB_SIDE_PX),
        )
        for i in shown
    )
    return SeenPanel(
        picture=jpeg_uri(images[best], PICK_SIDE_PX),
        width=picture.width,
        height=picture.height,
        heat=heat_uri(localisation_map(selection, 0), picture.width, picture.height),
        thumbs=thumbs,
    )


def neighbours(count: int, picks: Sequence[int], limit: int) -> list[int]:
    """Return up to `limit` frame indices in order: the picks first, the rest evenly spread."""
    kept = [p for p in picks if 0 <= p < count][:limit]
    others = [i for i in range(count) if i not in kept]
    free = min(len(others), limit - len(kept))
    spread = [others[int((n + 0.5) * len(others) / free)] for n in range(free)]
    return sorted({*kept, *spread})


def localisation_map(selection: Selection | None, pick: int) -> NDArray[np.float64] | None:
    """Return the map [height, width] of the pick-th best frame; None where there is none."""
    if not selection or pick >= len(selection.maps):
        return None
    values = np.asarray(selection.maps[pick], np.float64)
    if not values.size or values.size != selection.map_height * selection.map_width:
        return None
    return values.reshape(selection.map_height, selection.map_width)


def heat_uri(values: NDArray[np.float64] | None, width_px: int, height_px: int) -> str:
    if values is None:
        return ""
    overlay = pictures.heat_overlay(values, width_px, height_px)
    return data_uri("image/webp", pictures.encoded(overlay, "WEBP"))


def jpeg_uri(image: NDArray[np.uint8], side_px: int) -> str:
    return data_uri("image/jpeg", pictures.encoded(pictures.thumbnail(image, side_px), "JPEG"))


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
