"""The tensors of NVIDIA's network pickles, read without running anything that is in them.

Such a file holds whole objects, with the source code of their classes. Here only containers and
tensors are made; an object of a class whose code travels with it becomes an inert `Kept`, and any
other name is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avdata.errors import WeightsError


class Kept:
    """An object of which only the state is kept."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


class Table(dict[str, Any]):
    """A dictionary that was one of a class of its own."""

    def __setstate__(self, state: Any) -> None:
        self.update(state if isinstance(state, dict) else {})


def persistent(meta: dict[str, Any]) -> Kept:
    """Return the state of an object whose class's source code lies in the file."""
    kept = Kept()
    kept.__setstate__(meta.get("state"))
    return kept


def storage(content: bytes) -> Any:
    """Return a storage, read by torch's reader that runs nothing."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def array(*_: Any) -> Any:
    """Return an empty array, to which its state is given."""
    return np.ndarray((0,), dtype=np.uint8)


def scalar(*_: Any) -> None:
    """Return nothing in the place of a number that a layer remembers: no weight is one."""


def tensor(
    data: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> Tensor:
    """Return a tensor of a storage."""
    found: Tensor = torch._utils._rebuild_tensor(data, offset, shape, strides)  # type: ignore[no-untyped-call]
    return found


def parameter(data: Tensor, *_: Any) -> Tensor:
    """Return a parameter's tensor."""
    return data


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("torch._utils", "_rebuild_parameter"): parameter,
    ("torch.storage", "_load_from_bytes"): storage,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): persistent,
    ("dnnlib.util", "EasyDict"): Table,
    ("numpy.core.multiarray", "_reconstruct"): array,
    ("numpy._core.multiarray", "_reconstruct"): array,
    ("numpy.core.multiarray", "scalar"): scalar,
    ("numpy._core.multiarray", "scalar"): scalar,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""What a pickle may name, and what is called in its place."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise WeightsError(
            f"it asks for {module}.{name}, which a file of weights has no need of, so it is not "
            "read: pickles can run any code. If you trust it, load it where it was made and save "
            "`G_ema.state_dict()` with safetensors.torch.save_file"
        )


def read_pickle(path: str | Path, network: str = "G_ema") -> dict[str, Tensor]:
    """Return the tensors of one network of the file, by their full names.

    Raises WeightsError for a file that is damaged, lacks it, or names anything but tensors.
    """
    try:
        with Path(path).open("rb") as file:
            content = _Reader(file).load()
    except WeightsError as error:
        raise WeightsError(f"cannot read {path}: {error}") from None
    except Exception as error:  # of a damaged pickle any
        raise WeightsError(
            f"cannot read {path}; is it damaged, or no pickle of networks? "
            f"({type(error).__name__}: {error})"
        ) from None
    found = content.get(network) if isinstance(content, dict) else None
    if not isinstance(found, Kept):
        there = (
            ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        )
        raise WeightsError(f"{path} holds no network {network}, only {there}")
    return dict(_tensors(found, ""))


def _tensors(module: Kept, prefix: str) -> list[tuple[str, Tensor]]:
    """Return the parameters and buffers of a module's state, with those of its parts."""
    found = []
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                found.append((f"{prefix}{name}", value.detach()))
    for name, part in (module.state.get("_modules") or {}).items():
        if isinstance(part, Kept):
            found += _tensors(part, f"{prefix}{name}.")
    return found
