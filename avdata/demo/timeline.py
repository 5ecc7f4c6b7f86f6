"""What happens when in one demo video: the ground truth that sound and picture are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from avdata.seeding import rng_for

VERSION = 1  # raise it when the same timeline looks or sounds different; videos are made anew
FPS = 12
WIDTH_PX = 320
HEIGHT_PX = 240
PAN_S = 0.5

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of scene: what sounds in it, and the AudioSet classes a listener should name."""

    title: str
    sound: str  # name of the sound in the ground truth
    yamnet_classes: tuple[str, ...]  # the class meant, then its parents and children in AudioSet
    pauses: bool  # the sound stops for a few seconds


KINDS: Mapping[str, Kind] = {
    "snow_steps": Kind("Steps in snow", "steps", ("Walk, footsteps",), True),
    "gravel_steps": Kind("Steps on gravel", "steps", ("Walk, footsteps",), True),
    "light_rain": Kind(
        "Light rain on a pond", "rain", ("Rain", "Raindrop", "Rain on surface", "Water"), False
    ),
    "heavy_rain": Kind("Downpour", "rain", ("Rain", "Rain on surface", "Raindrop", "Water"), False),
    "birds": Kind(
        "Bird song",
        "bird_calls",
        ("Bird", "Bird vocalization, bird call, bird song", "Chirp, tweet"),
        True,
    ),
    "ocean": Kind("Surf", "surf", ("Ocean", "Waves, surf", "Water"), False),
    "stream": Kind("Stream in the woods", "stream", ("Stream", "Water"), False),
    "thunderstorm": Kind("Wind and thunder", "storm", ("Thunderstorm", "Thunder"), False),
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something heard and seen at once: a footfall, a chirp, a breaking wave, a thunderclap."""

    t_s: float
    who: int = 0  # foot 0 or 1; which bird


@dataclass(frozen=True, slots=True)
class Shot:
    """What the camera looks at from `start_s` to `end_s`; it pans there unless it cuts."""

    start_s: float
    end_s: float
    view: str  # source, sky, bark or meadow
    pan: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The whole course of one video; all times in seconds from its start."""

    name: str
    kind: str
    seed: int
    duration_s: float
    shots: tuple[Shot, ...]
    sounding: tuple[Interval, ...]
    events: tuple[Event, ...]
    still: bool = False  # a photograph with sound: nothing moves

    @property
    def frames(self) -> int:
        """Number of video frames."""
        return round(self.duration_s * FPS)

    @property
    def visible(self) -> tuple[Interval, ...]:
        """Intervals in which the sounding source fills the picture (pans excluded)."""
        return tuple(
            (round(shot.start_s + (PAN_S if shot.pan else 0.0), 3), shot.end_s)
            for shot in self.shots
            if shot.view == "source"
        )

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator for one purpose (sound, picture...) of this video."""
        return rng_for(self.seed, f"demo/{purpose}", self.name)

    def truth(self) -> dict[str, Any]:
        """Return the ground truth as plain JSON values."""
        kind = KINDS[self.kind]
        return {
            "video": f"{self.name}.mp4",
            "kind": self.kind,
            "title": kind.title,
            "seed": self.seed,
            "version": VERSION,
            "duration_s": self.duration_s,
            "fps": FPS,
            "width_px": WIDTH_PX,
            "height_px": HEIGHT_PX,
            "yamnet_classes": list(kind.yamnet_classes),
            "sounds": [
                {"name": kind.sound, "start_s": start_s, "end_s": end_s}
                for start_s, end_s in self.sounding
            ],
            "visible": [
                {"source": kind.sound, "start_s": start_s, "end_s": end_s}
                for start_s, end_s in self.visible
            ],
            "events": [asdict(event) for event in self.events],
            "shots": [asdict(shot) for shot in self.shots],
            "still": self.still,
        }


def make_timeline(kind: str, number: int, seed: int) -> Timeline:
    """Return the course of the `number`-th video of a kind, decided by the seed alone."""
    name = f"{kind}_{number:02d}"
    rng = rng_for(seed, "demo/timeline", name)
    duration_s = float(rng.integers(20, 25))
    sounding = _sounding(rng, duration_s) if KINDS[kind].pauses else ((0.0, duration_s),)
    shots = _shots(rng, duration_s)
    events = _EVENTS[kind](rng, sounding, shots) if kind in _EVENTS else ()
    return Timeline(name, kind, seed, duration_s, shots, sounding, events)


def make_faulty(seed: int) -> tuple[Timeline, ...]:
    """Return videos that no selection should accept: one mute, one a still photograph."""
    mute = replace(make_timeline("gravel_steps", 90, seed), name="mute_00", sounding=())
    photo = make_timeline("stream", 91, seed)
    shot = Shot(0.0, photo.duration_s, "source", False)
    return mute, replace(photo, name="photo_00", shots=(shot,), still=True)


def _sounding(rng: np.random.Generator, duration_s: float) -> tuple[Interval, ...]:
    """One pause of 4 to 5 s somewhere in the middle."""
    start_s = round(float(rng.uniform(0.35, 0.55)) * duration_s, 2)
    end_s = round(start_s + float(rng.uniform(4, 5)), 2)
    return (0.0, start_s), (end_s, duration_s)


def _shots(rng: np.random.Generator, duration_s: float) -> tuple[Shot, ...]:
    """Looks at the source of 3 to 5 s, looks away of 1.5 to 2.5 s, on whole frames."""
    shots: list[Shot] = []
    at, looks_away = 0, bool(rng.random() < 0.3)
    end = round(duration_s * FPS)
    while at < end:
        length = round(float(rng.uniform(1.5, 2.5) if looks_away else rng.uniform(3, 5)) * FPS)
        until = end if end - at - length < 2 * FPS else at + length
        view = str(rng.choice(["sky", "bark", "meadow"])) if looks_away else "source"
        pan = bool(at > 0 and rng.random() < 0.5)
        shots.append(Shot(round(at / FPS, 3), round(until / FPS, 3), view, pan))
        at, looks_away = until, not looks_away
    return tuple(shots)


def _steps(
    rng: np.random.Generator, sounding: tuple[Interval, ...], shots: tuple[Shot, ...]
) -> tuple[Event, ...]:
    period_s, foot, events = float(rng.uniform(0.5, 0.58)), 0, []
    for start_s, end_s in sounding:
        at = start_s + 0.3
        while at < end_s - 0.4:
            events.append(Event(round(at, 3), foot))
            at, foot = at + period_s * float(rng.uniform(0.96, 1.04)), 1 - foot
    return tuple(events)


def _chirps(
    rng: np.random.Generator, sounding: tuple[Interval, ...], shots: tuple[Shot, ...]
) -> tuple[Event, ...]:
    events = []
    for start_s, end_s in sounding:
        at = start_s + 0.2
        while at < end_s - 1.2:
            bird = int(rng.integers(3))
            for _ in range(int(rng.integers(3, 6))):
                events.append(Event(round(at, 3), bird))
                at += float(rng.uniform(0.13, 0.2))
            at += float(rng.uniform(0.3, 0.9))
    return tuple(events)


def _crests(
    rng: np.random.Generator, sounding: tuple[Interval, ...], shots: tuple[Shot, ...]
) -> tuple[Event, ...]:
    times, at = [], float(rng.uniform(1, 2))
    while at < sounding[-1][1]:
        times.append(round(at, 3))
        at += float(rng.uniform(3.6, 4.6))
    return tuple(Event(t) for t in times)


def _claps(
    rng: np.random.Generator, sounding: tuple[Interval, ...], shots: tuple[Shot, ...]
) -> tuple[Event, ...]:
    """One clap in each look at the sky long enough for it."""
    return tuple(
        Event(round(shot.start_s + float(rng.uniform(0.8, 1.6)), 3))
        for shot in shots
        if shot.view == "source" and shot.end_s - shot.start_s > 2
    )


_EVENTS = {
    "snow_steps": _steps,
    "gravel_steps": _steps,
    "birds": _chirps,
    "ocean": _crests,
    "thunderstorm": _claps,
}
