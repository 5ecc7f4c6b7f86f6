"""JSON that carries its own checksum, and that is read as something a stranger may have written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

SEAL = "self_sha256"


def seal(tree: Mapping[str, Any]) -> bytes:
    """Return `tree` as JSON that carries its own checksum."""
    body = {name: value for name, value in tree.items() if name != SEAL}
    return _dump({**body, SEAL: hashlib.sha256(_dump(body)).hexdigest()})


def is_sealed(data: bytes, tree: Mapping[str, Any]) -> bool:
    """Tell whether `data`, which holds `tree`, is as `seal` wrote it."""
    try:
        return data == seal(tree)
    except (RecursionError, ValueError):  # it was never written by `seal`
        return False


def parse_json(data: bytes) -> Any:
    """Return what JSON text holds; raises ValueError also for NaN and for endless nesting."""
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _dump(tree: Mapping[str, Any]) -> bytes:
    return json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False).encode()
