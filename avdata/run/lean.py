"""What keeps the processes of `avdata` small and quick to start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    """Answers that pandas is not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden here (avdata/run/lean.py)", name=name)


def without_pandas() -> None:
    """Hide pandas from this process; for our own processes alone, before pyarrow makes an array.

    Whenever pyarrow makes one it imports pandas, if that is installed, only to ask whether it was
    given a series: half a second and 60 MB in each process of a pool.
    """
    sys.meta_path.insert(0, _NoPandas())
