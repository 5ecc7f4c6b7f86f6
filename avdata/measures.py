"""What tag can measure on a clip, by name: the vocabulary of `steps.select.require` and `reject`.

Besides the names in `MEASURES`, `yamnet/Rain` is the mean and `yamnet_max/Rain` the maximum over
the clip of the score of one of the 521 AudioSet classes YAMNet knows.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources

from avdata.clip import Clip
from avdata.errors import SettingsError

MEASURES: dict[str, str] = {
    "speech_share": "share of YAMNet windows whose Speech score is at least 0.5, in [0, 1]",
    "music_share": "share of YAMNet windows whose Music score is at least 0.5, in [0, 1]",
    "loudness_lufs": "integrated loudness (ITU-R BS.1770-4); -70 for anything quieter",
    "peak_dbfs": "largest sample, dB relative to full scale; -96 for digital silence",
    "silence_share": "share of 50 ms frames quieter than silence_dbfs, in [0, 1]",
    "still_share": "share of neighbouring candidate frames that show the same picture, in [0, 1]",
    "motion": "mean absolute grey difference of neighbouring candidate frames, in [0, 1]",
    "scene_cuts": "number of neighbouring candidate frames with a cut between them",
    "brightness": "mean grey level of the candidate frames, in [0, 1]",
}

CLASS_PREFIXES = ("yamnet/", "yamnet_max/")


@cache
def class_names() -> tuple[str, ...]:
    """Return the 521 display names of YAMNet's classes, in the order of its scores."""
    text = resources.files("avdata").joinpath("data/yamnet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())


@cache
def class_index(name: str) -> int:
    """Return the place of a class in YAMNet's scores, such as 0 for Speech.

    Raises SettingsError for a name YAMNet does not know.
    """
    try:
        return class_names().index(name)
    except ValueError:
        close = difflib.get_close_matches(name, class_names(), n=3)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else "they are the display names of AudioSet"
        )
        raise SettingsError(f"YAMNet has no class {name!r}; {hint}") from None


def check_name(name: str, where: str) -> None:
    """Raise SettingsError, pointing to the setting `where`, unless tag can measure `name`."""
    for prefix in CLASS_PREFIXES:
        if name.startswith(prefix):
            try:
                class_index(name.removeprefix(prefix))
            except SettingsError as error:
                raise SettingsError(f"{where}: {error}") from None
            return
    if name not in MEASURES:
        close = difflib.get_close_matches(name, MEASURES, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError(
            f"{where}: no measure is called {name!r}; {hint}known: {', '.join(MEASURES)}, "
            "yamnet/CLASS and yamnet_max/CLASS"
        )


def value_of(clip: Clip, name: str) -> float | None:
    """Return what was measured on `clip` under `name`, None if it was not measured.

    Raises SettingsError for a class YAMNet does not know.
    """
    for prefix, scores in zip(
        CLASS_PREFIXES, (clip.class_scores, clip.class_scores_max), strict=True
    ):
        if name.startswith(prefix):
            index = class_index(name.removeprefix(prefix))
            return scores[index] if scores else None
    return clip.measures.get(name)
