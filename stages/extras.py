"""What a program lacks, and how to get it, in place of the traceback of a failed import."""

from __future__ import annotations

import sys
from types import TracebackType

EXTRAS = {
    **dict.fromkeys(("lightning_fabric", "onnx", "safetensors", "tensorboard"), "train"),
    **dict.fromkeys(("torch", "torchaudio", "transformers"), "train"),
    **dict.fromkeys(("h5py", "sklearn"), "eval"),
    "umap": "umap",
}
"""Module → the extra of avdata that brings it."""

ALSO = {"evaluate": "eval", "ablate": "eval"}
"""Program → the extra that it needs beside `train`."""


def explain_missing(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Take the place of sys.excepthook: end with 2 and the command that installs what is missing.

    Anything but the import of a module of EXTRAS is shown as ever.
    """
    module = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if module not in EXTRAS:
        sys.__excepthook__(kind, error, trace)
        return
    program = _program()
    extras = [EXTRAS[module]]
    if extras == ["train"] and program in ALSO:
        extras.append(ALSO[program])
    print(
        f"{program}: the package {module} cannot be imported ({error}); run: pip install "
        f"'avdata[{','.join(extras)}]', or in a checkout: pip install -e '.[{','.join(extras)}]'",
        file=sys.stderr,
    )
    raise SystemExit(2)


def _program() -> str:
    """Return NAME of `python -m stages.NAME`."""
    words = [word for word in sys.orig_argv if word.startswith("stages.")]
    return words[0].removeprefix("stages.") if words else "stages"
