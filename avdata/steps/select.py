"""select: decide which clips are accepted, with the reason, then pick the frames that match.

What was measured is only compared here, so changing a threshold never decodes video again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from avdata import measures
from avdata.clip import Clip, Selection, Status
from avdata.config import Range, SelectSettings
from avdata.errors import ClipError, Reason, SettingsError
from avdata.media_tar import TarReader
from avdata.scorers import MEASURED_BY, make_scorer
from avdata.steps.base import PartContext, guarded
from avdata.strict import to_tree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from avdata.scorers.base import ScoredClip, Scores

REJECTING = frozenset({Reason.NO_AUDIO, Reason.NO_VIDEO, Reason.NOT_LISTED})
"""What a scorer may say of a clip that is sound but unfit: rejected. Other errors are failures."""


class SelectStep:
    """Accepts or rejects clips by their measures and picks the frames that match the sound best.

    A clip must lie inside every range of `require` and outside every range of `reject`; bounds
    belong to the range. A measure that the clip lacks, or that is NaN, rejects it as well
    (not_measured): what is not known cannot be passed. The detail names all the rules that are
    broken; the first, `require` before `reject` and then by name, gives the reason.
    """

    name: ClassVar[str] = "select"
    version: ClassVar[int] = 2

    def __init__(self, settings: SelectSettings) -> None:
        if settings.top_k < 1:
            raise SettingsError(f"steps.select.top_k must be at least 1, got {settings.top_k}")
        if not settings.min_gap_s >= 0:
            raise SettingsError(
                f"steps.select.min_gap_s must be 0 or more, got {settings.min_gap_s}"
            )
        self._settings = settings
        self._scorer = make_scorer(settings)
        own = self._scorer.measures
        rules = [
            Rule(name, bounds, refuses=refuses, from_scorer=name in own)
            for refuses, ranges in ((False, settings.require), (True, settings.reject))
            for name, bounds in sorted(ranges.items())
        ]
        for rule in rules:
            rule.check()
        # What earlier steps measured is compared before any frame is read.
        self._rules_before = [rule for rule in rules if not rule.from_scorer]
        self._rules_after = [rule for rule in rules if rule.from_scorer]

    @property
    def uses_seed(self) -> bool:
        return self._scorer.uses_seed

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings, files named by their content instead of their path."""
        tree = {**to_tree(self._settings), "localizer": None, "moments": None}
        return tree | self._scorer.fingerprint()

    def run(self, clips: Sequence[Clip], part: PartContext) -> list[Clip]:
        """Return the clips accepted or rejected, in their order."""
        with TarReader(part.store) as reader:
            return [
                guarded(self.name, clip, lambda c: self._decided(c, reader, part.seed))
                for clip in clips
            ]

    def _decided(self, clip: Clip, reader: TarReader, seed: int) -> Clip:
        from avdata.scorers.base import ScoredClip

        if broken := _broken(clip, self._rules_before):
            return broken
        scored = ScoredClip(clip, reader, seed)
        try:
            scores = self._scorer.score(scored)
        except ClipError as error:
            if error.reason not in REJECTING:
                raise
            return clip.rejected(self.name, error.reason, error.detail)
        clip = replace(clip, measures={**clip.measures, **scores.measures})
        if broken := _broken(clip, self._rules_after):
            return broken
        selection = self._selection(scores, scored)
        return clip.after(self.name, status=Status.ACCEPTED, selection=selection)

    def _selection(self, scores: Scores, scored: ScoredClip) -> Selection:
        import numpy as np

        frame_scores = np.asarray(scores.frame_scores, np.float32)
        if not frame_scores.size:
            return Selection(self._scorer.name, (), ())
        picks = pick(
            frame_scores,
            scored.times_s,
            top_k=self._settings.top_k,
            min_gap_s=self._settings.min_gap_s,
            pickable=scores.pickable,
        )
        selection = Selection(self._scorer.name, tuple(frame_scores.tolist()), picks)
        if scores.maps is None:
            return selection
        maps = np.asarray(scores.maps, np.float32)[list(picks)]
        return replace(
            selection,
            maps=tuple(tuple(one.ravel().tolist()) for one in maps),
            map_height=maps.shape[1],
            map_width=maps.shape[2],
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """One threshold: a measure must lie inside the range or, if the rule refuses, outside."""

    measure: str
    bounds: Range
    refuses: bool
    from_scorer: bool  # measured by select's scorer, not by tag

    @property
    def name(self) -> str:
        """Where the rule stands in a pipeline's steps: select.reject.silence_share."""
        return f"select.{'reject' if self.refuses else 'require'}.{self.measure}"

    def check(self) -> None:
        """Raise SettingsError for bounds that hold no value or a name nobody measures."""
        low, high = self.bounds.min, self.bounds.max
        if low is None and high is None:
            raise SettingsError(f"{self.name} needs min, max or both")
        if any(bound is not None and math.isnan(bound) for bound in (low, high)):
            raise SettingsError(f"{self.name}: a bound is not a number (NaN)")
        if low is not None and high is not None and low > high:
            raise SettingsError(f"{self.name}: min {low:g} is above max {high:g}")
        if self.from_scorer:
            return
        if self.measure in MEASURED_BY:
            raise SettingsError(
                f"steps.{self.name} is measured by steps.select.scorer: "
                f"{MEASURED_BY[self.measure]} alone"
            )
        measures.check_name(self.measure, self.name)

    def broken_by(self, clip: Clip) -> tuple[Reason, str] | None:
        """Return why the clip breaks this rule, which the detail names; None if it keeps it."""
        value = measures.value_of(clip, self.measure)
        if value is None or math.isnan(value):
            return Reason.NOT_MEASURED, f"{self.name}: not measured on this clip"
        low, high = self.bounds.min, self.bounds.max
        if not self.refuses:
            if low is not None and value < low:
                return Reason.BELOW_MIN, f"{self.name}: {value:.6g} is below the required {low:g}"
            if high is not None and value > high:
                return Reason.ABOVE_MAX, f"{self.name}: {value:.6g} is above the allowed {high:g}"
            return None
        if (low is not None and value < low) or (high is not None and value > high):
            return None
        if low is None:
            return Reason.BELOW_MIN, f"{self.name}: {value:.6g} is rejected up to {high:g}"
        upto = "on" if high is None else f"to {high:g}"
        return Reason.ABOVE_MAX, f"{self.name}: {value:.6g} is rejected from {low:g} {upto}"


def rules_in(detail: str) -> list[str]:
    """Return the names of the rules that the detail of a rejected clip names, in its order."""
    return re.findall(r"(?:^|; )(select\.(?:require|reject)\..+?): ", detail)


def _broken(clip: Clip, rules: Sequence[Rule]) -> Clip | None:
    """Return the clip rejected for the rules it breaks, None if it keeps them all."""
    found = [broken for rule in rules if (broken := rule.broken_by(clip))]
    if not found:
        return None
    return clip.rejected(SelectStep.name, found[0][0], "; ".join(detail for _, detail in found))


def pick(
    scores: NDArray[np.float32],
    times_s: NDArray[np.float64],
    *,
    top_k: int,
    min_gap_s: float = 0.0,
    pickable: NDArray[np.bool_] | None = None,
) -> tuple[int, ...]:
    """Return the indices of the `top_k` highest scores, best first; of equals the earlier frame.

    Frames nearer than `min_gap_s` to a better pick are passed over, so there may be fewer.
    """
    import numpy as np

    picks: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if pickable is not None and not pickable[index]:
            continue
        if all(abs(times_s[index] - times_s[other]) >= min_gap_s for other in picks):
            picks.append(index)
            if len(picks) == top_k:
                break
    return tuple(picks)
