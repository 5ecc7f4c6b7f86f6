"""What can go wrong in training beside wrong settings and wrong shards."""

from __future__ import annotations

from avdata.errors import AvdataError


class TrainingError(AvdataError):
    """Training cannot go on: a loss that is not finite, no memory left."""


class CheckpointError(AvdataError):
    """A checkpoint is missing, damaged, or was made by something else."""
