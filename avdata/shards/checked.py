"""What dataset.json and index rows may say, checked before it is used: a stranger may have written
them. Each function returns the first thing that is wrong, or an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from avdata.clip import KEY_PATTERN

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_NAME = r"[a-z0-9_]+-[0-9]{6,}"
SHARD_FILE = re.compile(rf"({SHARD_NAME})(?:-([0-9a-f]{{12}}))?\.tar")
SHA256 = re.compile(r"[0-9a-f]{64}")
MEMBERS = ("jpg", "audio", "json", "mp4")
MAX_BYTES = 2**61  # two of them still add up to an int64
BOUNDS = {  # of whole numbers in the index: what a reader makes room for
    "sample_rate_hz": (0, 10**6),
    "n_samples": (0, 2**31),
    "width_px": (0, 2**16),
    "height_px": (0, 2**16),
}
ALWAYS = {"key", "split", "shard", "labels", "frames", "audio_offset", "json_offset", *BOUNDS}


def shard_file(name: str, sha256: str) -> str:
    """Return the file name of a shard: it tells the content, so no other ever takes its place."""
    return f"{name}-{sha256[:12]}.tar"


def dataset_problem(tree: Mapping[str, Any], index_name: str) -> str:
    """Say what is wrong with the content of dataset.json."""
    for name, fits in _FIELDS.items():
        if not fits(tree.get(name)):
            return f"{name} is {_brief(tree.get(name))}"
    if tree["index"].get("name") != index_name or not _is_file(tree["index"]):
        return f"index is {_brief(tree['index'])}"
    for name, facts in tree["files"].items():
        shard = SHARD_FILE.fullmatch(name)
        if not shard:
            return f"{_brief(name)} is no name of a shard"
        if not _is_file(facts) or not _is_count(facts.get("clips")):
            return f"{name} is described as {_brief(facts)}"
        if shard[2] and not facts["sha256"].startswith(shard[2]):
            return f"the name of {name} does not fit its checksum {facts['sha256']}"
    for name in ("files", "splits"):
        total = sum(facts["clips"] for facts in tree[name].values())
        if total != tree["clips"]:
            return f"{name} have {total} clips, clips is {tree['clips']}"
    return ""


def rows_problem(rows: pa.Table, sizes: Mapping[str, int]) -> str:
    """Say what is wrong with rows of the index, in those of its columns that were read.

    sizes: bytes of each shard, by file name.
    """
    return next(_wrong_rows(rows, sizes), "")


def _wrong_rows(rows: pa.Table, sizes: Mapping[str, int]) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    there = set(rows.column_names)
    for name in sorted(there & ALWAYS):
        if rows.column(name).null_count:
            yield f"{name} is missing in {rows.column(name).null_count} rows"
            return
    if "key" in there:
        keys = rows.column("key")
        good = pc.match_substring_regex(keys, f"^(?:{KEY_PATTERN.pattern})$")
        if bad := keys.filter(pc.invert(good))[:1].to_pylist():
            yield f"{_brief(bad[0])} is no key"
        elif pc.count_distinct(keys).as_py() != len(keys):
            yield "a key is there twice"
    if "labels" in there and pc.list_flatten(rows.column("labels")).null_count:
        yield "a label is missing"
    for name, (low, high) in BOUNDS.items():
        if name in there and not _within(rows.column(name), low, high):
            yield f"{name} is not from {low} to {high} everywhere"
    if "shard" not in there:
        return
    shards = rows.column("shard")
    if strange := sorted(set(shards.unique().to_pylist()) - sizes.keys()):
        yield f"{_brief(strange[0])} is none of the shards"
        return
    known = pa.array(sizes.keys(), pa.string())
    ends = pa.array(sizes.values(), pa.int64()).take(pc.index_in(shards.combine_chunks(), known))
    for kind in MEMBERS:
        if {f"{kind}_offset", f"{kind}_bytes"} <= there:
            offset, size = rows.column(f"{kind}_offset"), rows.column(f"{kind}_bytes")
            if not _lies_within(offset, size, ends):
                yield f"{kind} does not lie within its shard everywhere"
        if {f"{kind}_offset", f"{kind}_crc32"} <= there and not _same_gaps(
            rows.column(f"{kind}_offset"), rows.column(f"{kind}_crc32")
        ):
            yield f"{kind} has no checksum everywhere"
    if "frames" in there:
        yield from _wrong_frames(rows.column("frames").combine_chunks(), ends)


def _wrong_frames(frames: pa.ListArray, ends: pa.Array) -> Iterator[str]:
    import pyarrow.compute as pc

    own, frame = pc.list_parent_indices(frames), pc.list_flatten(frames)
    t_s, offset, size = (pc.struct_field(frame, name) for name in ("t_s", "offset", "bytes"))
    if offset.null_count or not _lies_within(offset, size, ends.take(own)):
        yield "a frame does not lie within its shard"
    if frame.type.num_fields > 3 and pc.struct_field(frame, "crc32").null_count:
        yield "a frame has no checksum"
    if t_s.null_count or not pc.all(pc.is_finite(t_s), min_count=0).as_py():
        yield "the time of a frame is no number"


def _lies_within(offset: Any, size: Any, ends: pa.Array) -> bool:
    """Tell whether each stretch, if there is one, lies between 0 and the end of its file."""
    import pyarrow.compute as pc

    if not (_within(offset, 0, MAX_BYTES) and _within(size, 0, MAX_BYTES)):
        return False
    if not _same_gaps(offset, size):
        return False
    fits = pc.less_equal(pc.add(offset, size), ends)
    return bool(pc.all(fits, min_count=0).as_py())


def _same_gaps(one: Any, other: Any) -> bool:
    """Tell whether both columns have a value in the same rows."""
    import pyarrow.compute as pc

    same = pc.equal(pc.is_null(one), pc.is_null(other))
    return bool(pc.all(same, min_count=0).as_py())


def _within(values: Any, low: int, high: int) -> bool:
    """Tell whether all values that are not null lie from `low` to `high`."""
    import pyarrow.compute as pc

    found = pc.min_max(values).as_py()
    return found["min"] is None or (found["min"] >= low and found["max"] <= high)


def is_sha256(value: Any) -> bool:
    """Tell whether `value` is 64 hex digits."""
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_BYTES


def _is_file(facts: Any) -> bool:
    return (
        isinstance(facts, dict) and _is_count(facts.get("bytes")) and is_sha256(facts.get("sha256"))
    )


def _are_splits(splits: Any) -> bool:
    return isinstance(splits, dict) and all(
        isinstance(facts, dict) and _is_count(facts.get("clips")) for facts in splits.values()
    )


def _is_uniform(value: Any) -> bool:
    return value is None or _is_count(value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "digest": lambda value: isinstance(value, str) and bool(value),
    "clips": _is_count,
    "settings": lambda value: isinstance(value, dict) and isinstance(value.get("frames"), str),
    "splits": _are_splits,
    "files": lambda value: isinstance(value, dict),
    "index": lambda value: isinstance(value, dict),
    "sample_rate_hz": _is_uniform,
    "pictures": _is_uniform,  # older ones do not tell
    "width_px": _is_uniform,
    "height_px": _is_uniform,
}


def _brief(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
