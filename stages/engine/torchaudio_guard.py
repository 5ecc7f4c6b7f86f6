"""Lets torchaudio and torchvision be imported beside a torch without CUDA.

Their packages link CUDA libraries; where torch has none, the import fails although nearly all of
their Python works. `install()` steps in before the first import and does nothing where torch has
CUDA or HIP, or these packages do not need it. What needs their compiled parts (nms, image files,
forced alignment) still fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

import torch

EXTENSION = "torchaudio._extension"

# Operators whose shapes torchvision describes to torch on import: schemas as it declares them.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class Guard(MetaPathFinder, Loader):
    """Answers for `torchaudio._extension`, and declares torchvision's operators as it is found."""

    def __init__(self) -> None:
        self._library: Any = None  # the operators live as long as it does

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == EXTENSION and _links_cuda("torchaudio"):
            return ModuleSpec(name, self, is_package=True)
        if name == "torchvision" and self._library is None and _links_cuda(name):
            make: Any = torch.library.Library  # torch declares no types here
            self._library = make("torchvision", "FRAGMENT")
            for schema in SCHEMAS:
                self._library.define(schema)
        return None

    def exec_module(self, module: ModuleType) -> None:
        def fail_if_no_align(function: Any) -> Any:
            def fail(*_: Any, **__: Any) -> None:
                raise RuntimeError(f"{function.__name__} needs torchaudio beside a torch with CUDA")

            return fail

        values = {
            "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
            "_IS_ALIGN_AVAILABLE": False,
            "_check_cuda_version": lambda: None,
            "fail_if_no_align": fail_if_no_align,
        }
        module.__dict__.update(values)


def _links_cuda(package: str) -> bool:
    """Tell whether the installed build wants CUDA: Linux builds that do not are called +cpu."""
    try:
        return sys.platform == "linux" and not version(package).endswith("+cpu")
    except PackageNotFoundError:
        return False


def install() -> None:
    """Make `import torchaudio` and `import torchvision` work; call it before them."""
    if torch.version.cuda or torch.version.hip:
        return
    if not any(isinstance(finder, Guard) for finder in sys.meta_path):
        sys.meta_path.insert(0, Guard())
