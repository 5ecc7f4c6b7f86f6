"""One clip as it stands in a shard: its members, and the JSON that describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avdata.clip import Clip
from avdata.config import ShardSettings
from avdata.measures import class_names
from avdata.shards.folder import ByteRange

SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip's members: suffix to place in the part's media tar, and its JSON."""

    clip: Clip
    members: Mapping[str, ByteRange]
    best_frame: str | None
    frames: Mapping[str, float]  # suffix to t_s: best first, or all candidates in time
    tags: Sequence[tuple[str, float]]  # names of the best YAMNet classes and their scores
    json: bytes

    @property
    def bytes(self) -> int:
        return sum(member.bytes for member in self.members.values())


def make_sample(
    clip: Clip, classes: Sequence[Mapping[str, Any]], settings: ShardSettings
) -> Sample:
    """Return the sample of an accepted clip.

    The best frame is `key.jpg`, the next ones `key.1.jpg`, `key.2.jpg`...; if all candidates go
    in, they are `key.000.jpg`, `key.001.jpg`... in the order of time. `classes` are the clip's
    best YAMNet classes as mappings with index and score.
    """
    media, picks = clip.media, clip.selection.picks if clip.selection else ()
    assert media is not None, f"{clip.key} was accepted without media"
    if settings.frames == "all":
        suffixes = {index: f"{index:03d}.jpg" for index in range(len(media.frames))}
    else:
        suffixes = {index: f"{n}.jpg" if n else "jpg" for n, index in enumerate(picks)}
    members = {
        suffix: ByteRange(media.path, media.frames[index].offset, media.frames[index].bytes)
        for index, suffix in suffixes.items()
    }
    members[media.audio_format] = ByteRange(media.path, media.audio.offset, media.audio.bytes)
    if settings.video and media.video:
        members["mp4"] = ByteRange(media.path, media.video.offset, media.video.bytes)
    names = class_names()
    tags = [(names[c["index"]], c["score"]) for c in classes if c["index"] < len(names)]
    return Sample(
        clip=clip,
        members=members,
        best_frame=suffixes.get(picks[0]) if picks else None,
        frames={suffix: media.frames[index].t_s for index, suffix in suffixes.items()},
        tags=tags,
        json=_describe(clip, suffixes, tags),
    )


def _describe(clip: Clip, suffixes: Mapping[int, str], tags: Sequence[tuple[str, float]]) -> bytes:
    """Return the clip's JSON: sorted, every key always there and of one type."""
    media, source, selection = clip.media, clip.source, clip.selection
    assert media is not None
    scores = selection.frame_scores if selection else ()
    tree = {
        "key": clip.key,
        "url": clip.url,
        "source_id": clip.source_id,
        "source_sha256": source.sha256 if source else "",
        "dataset": clip.dataset,
        "start_ms": clip.start_ms,
        "end_ms": clip.end_ms,
        "labels": list(clip.labels),
        "licence": clip.licence,
        "attribution": clip.attribution,
        "attributes": dict(clip.attributes),
        "sample_rate_hz": media.sample_rate_hz,
        "n_samples": media.n_samples,
        "width_px": media.width_px,
        "height_px": media.height_px,
        "scorer": selection.scorer if selection else "",
        "frames": [
            {
                "file": suffix,
                "t_s": _tidy(media.frames[index].t_s),
                "score": _tidy(scores[index]) if index < len(scores) else None,
            }
            for index, suffix in suffixes.items()
        ],
        "measures": {name: _tidy(value) for name, value in clip.measures.items()},
        "tags": [{"name": name, "score": _tidy(score)} for name, score in tags],
    }
    return json.dumps(tree, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _tidy(value: float) -> float | None:
    """Return `value` without digits that mean nothing; None where JSON has no number."""
    tidy = float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return tidy if abs(tidy) < float("inf") else None
