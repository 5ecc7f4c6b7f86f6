"""Accepted clips with real pictures and sound, as select leaves them, without running the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avdata.audio import encode
from avdata.clip import Clip, Frame, Media, Selection, Source, Status
from avdata.config import ShardSettings
from avdata.frames import encode_jpeg
from avdata.media_tar import MediaTar
from avdata.steps.shard import ShardPlan, finish_shards, plan_shards, write_shard
from avdata.store import Store
from avdata.tables import write_clips

SAMPLE_RATE_HZ = 8000
SIDE_PX = 32


@dataclass
class Made:
    """A clip to be made; what is not said is derived from its number."""

    number: int
    source: int | None = None
    split: str = ""
    start_ms: int = 0
    accepted: bool = True
    picks: tuple[int, ...] = (1, 0)
    n_samples: int = 4000

    @property
    def key(self) -> str:
        return f"clip{self.number:04d}"


def picture(made: Made, frame: int) -> np.ndarray:
    """A picture of one colour, told by the clip's number and the frame's."""
    colour = (made.number * 37 % 256, made.number * 91 % 256, 80 * frame)
    return np.full((SIDE_PX, SIDE_PX, 3), colour, np.uint8)


def sound(made: Made) -> np.ndarray:
    """Samples that count up from the clip's number."""
    return (np.arange(made.n_samples) + 100 * made.number).astype(np.int16)


def write_table(
    store: Store, name: str, clips: Sequence[Made], audio_format: str = "flac", frames: int = 3
) -> str:
    """Write a part: its media tar and its clip table; return the table's path."""
    path = Path(store.full(f"work/{name}.tar"))
    path.parent.mkdir(parents=True, exist_ok=True)
    tar = MediaTar(path)
    rows = [_clip(made, tar, f"work/{name}.tar", audio_format, frames) for made in clips]
    tar.close()
    table = f"work/{name}.parquet"
    write_clips(Path(store.full(table)), rows)
    return table


def _clip(made: Made, tar: MediaTar, path: str, audio_format: str, frames: int) -> Clip:
    source = made.number if made.source is None else made.source
    data = encode(sound(made), SAMPLE_RATE_HZ, audio_format)
    audio = tar.add(f"{made.key}.{audio_format}", data)
    members = [
        tar.add(f"{made.key}.{n}.jpg", encode_jpeg(picture(made, n), 90)) for n in range(frames)
    ]
    return Clip(
        key=made.key,
        url=f"http://127.0.0.1/{source}.mp4",
        source_id=f"video{source:04d}",
        dataset="made",
        start_ms=made.start_ms,
        end_ms=made.start_ms + 500,
        split=made.split,
        labels=("rain", "wind") if made.number % 2 else (),
        licence="CC0-1.0",
        attribution="nobody",
        attributes={"taker": "señor"},
        status=Status.ACCEPTED if made.accepted else Status.REJECTED,
        step="select",
        source=Source(
            path=f"media/{source}.mp4",
            sha256=f"{source + 1:064x}"[::-1],
            bytes=1,
            duration_ms=9000,
            width_px=64,
            height_px=64,
            fps=25.0,
            rotation_deg=0,
            video_codec="h264",
            audio_codec="aac",
            audio_rate_hz=48000,
            audio_channels=2,
        ),
        media=Media(
            path=path,
            audio=audio,
            audio_format=audio_format,
            sample_rate_hz=SAMPLE_RATE_HZ,
            n_samples=made.n_samples,
            width_px=SIDE_PX,
            height_px=SIDE_PX,
            frames=tuple(Frame(0.1 * n, m.offset, m.bytes) for n, m in enumerate(members)),
        ),
        measures={"loudness_lufs": -20.1234567, "silence": 0.0},
        class_scores=tuple(np.linspace(0, 0.5, 521).tolist()),
        selection=Selection(scorer="mid", frame_scores=(0.25, 1.0, 0.1)[:frames], picks=made.picks),
    )


def tar_of(shards: Path, name: str = "train-000000") -> Path:
    """Return the tar of a shard, whose file name also tells its content."""
    (path,) = shards.glob(f"{name}-*.tar")
    return path


def pack(
    store: Store,
    tables: Sequence[str],
    settings: ShardSettings | None = None,
    seed: int = 0,
    deep: bool = False,
) -> list[ShardPlan]:
    """Run the whole step and return the plans."""
    settings = settings or ShardSettings()
    plans = plan_shards(store, tables, settings, seed, deep=deep)
    stats = [write_shard(store, plan, settings) for plan in reversed(plans)]
    finish_shards(store, plans, stats, settings)
    return plans
