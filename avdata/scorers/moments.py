"""Moments published as frame indices at 10 fps, mapped to candidate frames by real time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from avdata.clip import Clip
from avdata.errors import ClipError, Reason, SettingsError
from avdata.parsing import parse_json
from avdata.scorers.base import ScoredClip, Scores, read_setting

MOMENTS_RATE_HZ = 10


class Moments:
    """Scores the frames nearest to the published moments of a clip; no other frame is picked.

    The file maps `youtubeid_startms_endms` to frame indices, best first; the published
    `top1_boxes_top10_moments.json` holds that mapping behind one of boxes, in a list of two, and
    is read as it is. Index i means the time i / 10 s after the clip's start: videos below 10 fps
    have fewer frames than indices, so counting frames would miss. The score is 1 for the best
    moment and falls by 1/n for each of the n moments; a clip that is not listed is rejected.

    A clip is found by `source_id`, `start_ms` and `end_ms`, in the time of the original video (the
    attribute `source_start_ms` says where a file that was cut from it begins); failing that by
    `source_id` and `start_ms` (a clip that trim kept short; moments past its end are left out), or
    by `source_id` alone if it starts at 0 and is called like the listed clip.
    Adds the measure `moment_offset_s`, how far (s) the chosen frame lies from the best moment.
    """

    name: ClassVar[str] = "moments"
    measures: ClassVar[tuple[str, ...]] = ("moment_offset_s",)
    uses_seed: ClassVar[bool] = False

    def __init__(self, path: str | None) -> None:
        data = read_setting(path, "moments", self.name)
        self._sha256 = hashlib.sha256(data).hexdigest()
        self._moments = _parse(data, str(path))

    def fingerprint(self) -> dict[str, Any]:
        return {"moments_sha256": self._sha256}

    def score(self, clip: ScoredClip) -> Scores:
        indices = self._indices(clip.clip)
        times_ms = np.rint(1000 * clip.times_s)  # whole, so that ties go to the earlier frame
        offsets_ms = np.abs(times_ms[None, :] - 1000 / MOMENTS_RATE_HZ * np.array(indices)[:, None])
        scores = np.zeros(len(times_ms))
        for rank, frame in enumerate(offsets_ms.argmin(axis=1)):
            scores[frame] = max(scores[frame], 1 - rank / len(indices))
        return Scores(
            scores,
            pickable=scores > 0,
            measures={"moment_offset_s": float(offsets_ms[0].min()) / 1000},
        )

    def _indices(self, clip: Clip) -> list[int]:
        begins = clip.attributes.get("source_start_ms", "")
        begins_ms = int(begins) if re.fullmatch(r"[0-9]{1,12}", begins) else 0
        start = f"{clip.source_id}_{begins_ms + (clip.start_ms or 0)}"
        name = start if clip.end_ms is None else f"{start}_{begins_ms + clip.end_ms}"
        indices = self._moments.get(name) or self._moments.get(start)
        if not indices and not clip.start_ms:
            indices = self._moments.get(clip.source_id)
        if not indices:
            raise ClipError(Reason.NOT_LISTED, f"{name} is not in the list of moments")
        if clip.start_ms is not None and clip.end_ms is not None:
            last = (clip.end_ms - clip.start_ms) * MOMENTS_RATE_HZ / 1000
            indices = [index for index in indices if index <= last]
            if not indices:
                raise ClipError(
                    Reason.NOT_LISTED,
                    f"all moments listed for {start} lie past the clip's end at {clip.end_ms} ms",
                )
        return indices


@lru_cache(maxsize=1)
def _parse(data: bytes, path: str) -> Mapping[str, list[int]]:
    try:
        tree = parse_json(data)
    except ValueError as error:
        raise SettingsError(f"steps.select.moments: {path} is not valid JSON: {error}") from None
    if isinstance(tree, list) and len(tree) == 2:
        tree = tree[1]
    if not isinstance(tree, dict):
        raise SettingsError(
            f"steps.select.moments: {path} must map id_startms_endms to frame indices, "
            f"got {type(tree).__name__}"
        )
    for name, indices in tree.items():
        if not isinstance(indices, list) or not all(type(i) is int and i >= 0 for i in indices):
            raise SettingsError(
                f"steps.select.moments: {path}: {name} must be a list of frame indices "
                f"(0, 1, ...), got {str(indices)[:80]}"
            )
    # Every clip under its name, and under its name without the end.
    return {name.rpartition("_")[0]: indices for name, indices in tree.items()} | tree
