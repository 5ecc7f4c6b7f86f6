"""A training while it runs: what a trainer asks for, in the order in which it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from avdata.audio_spec import AudioSpec
from avdata.config import Pipeline
from avdata.errors import SettingsError
from avdata.frames import IMAGENET_MEAN, IMAGENET_STD
from avdata.loader import Batch
from avdata.views import View
from stages.common import data
from stages.common.batches import Batches, HeldOut, RowSource, TensorBatch, Triple
from stages.common.checkpoint import ModelCard
from stages.common.ema import Ema
from stages.common.keeper import Keeper
from stages.common.progress import Progress
from stages.common.rng import generator_for, seed_all
from stages.common.settings import TrainerSettings
from stages.common.standing import Standing

if TYPE_CHECKING:
    from rich.console import Console

S_co = TypeVar("S_co", bound=TrainerSettings, covariant=True)
B = TypeVar("B")
