"""Pipelines and dataset descriptions that travel with the package, found by name.

In the repository they stand at the top, in pipelines/ and manifests/; avdata/data links to them, so
that an installed package holds them too. A file of the same name in the working directory's own
folder goes before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

DATA = Path(__file__).parent / "data"
Kind = Literal["pipelines", "manifests"]


def folders(kind: Kind) -> tuple[Path, Path]:
    """Return where files of a kind are looked for, in order."""
    return Path(kind), DATA / kind


def shipped_names(kind: Kind) -> list[str]:
    """Return the names of all files of a kind, sorted."""
    return sorted({path.stem for folder in folders(kind) for path in folder.glob("*.yaml")})


def find(kind: Kind, name: str) -> Path | None:
    """Return the file called `name`, None if there is none or `name` is a path."""
    if not name or "/" in name or "\0" in name:
        return None
    candidates = (folder / f"{name}.yaml" for folder in folders(kind))
    return next((path for path in candidates if path.is_file()), None)


def pipeline_file(given: str | Path) -> Path:
    """Return the pipeline file at a path, or of a name such as `demo`.

    What is neither is returned as it is; `pipeline_hint` says what to do about it.
    """
    path = Path(given)
    if path.suffix in (".yaml", ".yml") or "\0" in str(given) or path.is_file():
        return path
    return find("pipelines", str(given)) or path


def pipeline_hint(given: str | Path) -> str:
    """Return what may have been meant by a pipeline file that is not there."""
    stem = Path(given).stem
    if find("pipelines", stem):
        return f"; the one that travels with the package is called by its name: {stem}"
    return f"; pipelines that have a name: {', '.join(shipped_names('pipelines'))}"
