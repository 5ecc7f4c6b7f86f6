"""What a weights file says of itself, read as something that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from avdata.audio.spec import AudioSpec
from avdata.errors import SettingsError
from stages.engine.errors import CheckpointError

FORMAT = "avdata-checkpoint"
FORMAT_VERSION = 1
LARGEST = 2**20  # characters of metadata; ours have a few thousand

FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "settings": (dict,),
    "audio": (dict, type(None)),
}
"""What every file says, and of which type."""
FACTS: dict[str, tuple[type, ...]] = {
    "features": (dict, type(None)),
    "stage": (str,),
    "step": (int,),
    "metrics": (dict,),
    "averaged": (bool,),
}
"""What files of trainings say too."""


def parse_metadata(text: str, where: str) -> dict[str, Any]:
    """Return the metadata that a weights file carries as JSON, every field of the right type.

    where: the file, for the CheckpointError that anything else raises.
    """
    metadata = _parsed(text, where)
    if metadata.get("format") != FORMAT or not metadata.keys() >= FIELDS.keys():
        raise CheckpointError(
            f"{where} does not describe itself as {FORMAT}; published checkpoints are read by the "
            "model they belong to"
        )
    if metadata.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has format version {_shown(metadata.get('version'))}, this program reads "
            f"{FORMAT_VERSION}"
        )
    for name, kinds in (FIELDS | FACTS).items():
        # JSON's true and false are whole numbers to Python.
        if name in metadata and type(metadata[name]) not in kinds:
            raise _nonsense(where, f"{name} is {_shown(metadata[name])}")
    for name, value in metadata.get("metrics", {}).items():
        if type(value) not in (int, float):
            raise _nonsense(where, f"the metric {_shown(name)} is {_shown(value)}")
    if metadata["audio"] is not None:
        _require_audio_spec(metadata["audio"], where)
    return metadata


def _parsed(text: str, where: str) -> dict[str, Any]:
    if len(text) > LARGEST:
        raise _nonsense(where, f"it has {len(text)} characters, at most {LARGEST} are read")
    try:
        found = json.loads(text)
    except RecursionError:
        raise _nonsense(where, "it is nested too deep") from None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _require_audio_spec(tree: Mapping[str, Any], where: str) -> None:
    try:
        AudioSpec.from_json(json.dumps(tree))
    except (SettingsError, RecursionError) as error:
        raise _nonsense(where, f"audio is no front-end ({error})") from None


def _nonsense(where: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"the metadata of {where} are damaged: {what}; copy the file again, or train it again"
    )


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, list | dict) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]} ..."
