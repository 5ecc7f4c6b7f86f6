"""Small JSON files that carry their own checksum: what was changed behind our back is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avdata.shards.sealed import SEAL, is_sealed, parse_json, seal
from avdata.store import Store


def write_sealed(store: Store, path: str, tree: Mapping[str, Any]) -> None:
    """Write `tree` as JSON with its checksum."""
    store.write_bytes(path, seal(tree))


def read_sealed(store: Store, path: str) -> dict[str, Any] | None:
    """Return what was written, without the checksum; None if it is absent or was changed."""
    try:
        data = store.read_bytes(path)
        tree = parse_json(data)
        if not isinstance(tree, dict) or not is_sealed(data, tree):
            return None
        del tree[SEAL]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return tree
