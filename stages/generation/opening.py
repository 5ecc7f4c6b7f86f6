"""What every family does as it opens its painter: choose a device, say where parts come from."""

from __future__ import annotations

from pathlib import Path

import torch

from avdata.errors import SettingsError
from avdata.store import sha256_file
from stages.engine.checkpoint import weights_file
from stages.engine.errors import CheckpointError
from stages.engine.fabric import set_float32_precision


def painting_device(name: str) -> torch.device:
    """Return the device of this name; auto: a GPU if there is one. Float32 becomes exact on it.

    Raises SettingsError for a GPU that is not there.
    """
    set_float32_precision(exact=True)  # pictures do not depend on the card
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is cuda, but this torch finds no GPU; give --device cpu")
    return torch.device(name)


def source_of(path: Path, product: str | None = None) -> dict[str, str]:
    """Return file and SHA-256 of a part: a file, or a product in the folder of a training."""
    file = weights_file(path, product)
    return {"file": str(file), "sha256": sha256_file(file)}


def wrong_kind(path: Path, found: str, part: str, trainer: str) -> CheckpointError:
    """Return the error for a file that holds another model than the part it is given for."""
    return CheckpointError(
        f"{path} holds the model {found!r}, no {part.replace('_', ' ')}; give --"
        f"{part.replace('_', '-')} what {trainer} wrote"
    )
