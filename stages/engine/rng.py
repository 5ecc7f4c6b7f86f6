"""Global randomness: seeded per process, saved in checkpoints, restored exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from avdata.seeding import keyed_hash


def seed_all(seed: int, name: str, key: str) -> None:
    """Seed Python, NumPy and torch (all devices) from `seed`, stage name and key."""
    value = keyed_hash(seed, name, key)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value % 2**63)


def generator_for(seed: int, name: str, key: str, device: torch.device) -> torch.Generator:
    """Return a generator on `device` that depends on nothing but its arguments."""
    generator = torch.Generator(device)
    generator.manual_seed(keyed_hash(seed, name, key) % 2**63)
    return generator


def rng_state(generator: torch.Generator) -> dict[str, Any]:
    """Return the state of all randomness of this process as plain values and tensors."""
    numpy_state: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, gauss = numpy_state
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "generator": generator.get_state(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }
    if generator.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(generator.device)
    return state


def set_rng_state(state: Mapping[str, Any], generator: torch.Generator) -> None:
    """Restore what `rng_state` returned."""
    torch.set_rng_state(state["torch"])
    generator.set_state(state["generator"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if "cuda" in state and generator.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], generator.device)
