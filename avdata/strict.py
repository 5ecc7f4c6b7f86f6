"""Strict settings: frozen dataclasses built from YAML, with `key.sub=value` overrides.

Unknown keys and wrong types are errors that name the key, the value seen and what would be right.
Each field carries its own help text, from which docs/pipeline.md is made.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from avdata.errors import SettingsError, nearest
from avdata.parsing import parse_yaml
from avdata.shipped import pipeline_file, pipeline_hint

T = TypeVar("T")
MAX_WHOLE = 2**63 - 1
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")  # no path and no UTF-8 file can hold them
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def setting(default: Any, help: str, *, path: bool | Literal["optional"] = False) -> Any:
    """Declare a settings field with its help text; mutable defaults are copied.

    path: it holds a path (see avdata.located); optional: whoever reads it says if it is missing.
    """
    metadata = {"help": help, "path": path}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(cls: type[T], help: str) -> Any:
    """Declare a field that is itself a settings class."""
    return field(default_factory=cls, metadata={"help": help})


def read_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a pipeline file, by path or name, and apply `key.sub=value` overrides.

    Raises SettingsError for what cannot be read, bad YAML and a top level that is no mapping.
    """
    try:
        text = pipeline_file(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"cannot read the pipeline file {path}: there is none{pipeline_hint(path)}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        raise SettingsError(f"cannot read the pipeline file {path}: {error}") from None
    try:
        tree = parse_yaml(text)
    except ValueError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must be a mapping of settings, got {type(tree).__name__}")
    return override(tree, overrides)


def override(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `key.sub=value` overrides (values are YAML) to a tree of settings and return it."""
    for text in overrides:
        _set(tree, text)
    return tree


def _set(tree: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise SettingsError(f"--set takes key=value, got {shown(text)}")
    *parents, last = path.split(".")
    node: Any = tree
    for name in parents:
        if node.get(name) is None:
            node[name] = {}  # not there, or a section without an entry
        node = node[name]
        if not isinstance(node, dict):
            raise SettingsError(f"--set {path}: {name} is a value, not a section")
    try:
        node[last] = parse_yaml(value)
    except ValueError as error:
        raise SettingsError(f"--set {path}: {shown(value)} is not valid YAML: {error}") from None


def build(cls: type[T], tree: Mapping[str, Any], where: str) -> T:
    """Build a settings class from a plain mapping; strict about keys and types."""
    return typing.cast(T, _coerce(tree, cls, where))


def _coerce(value: Any, kind: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _coerce(value, next(a for a in arguments if a is not type(None)), where)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            raise _wrong(where, value, "one of " + ", ".join(map(repr, arguments)))
        return value
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise _wrong(where, value, "a list")
        return tuple(_coerce(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a mapping")
        return {str(k): _coerce(v, arguments[1], f"{where}.{k}") for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_WHOLE:
            raise _wrong(where, value, "a number that fits 64 bits")
        return float(value)
    if kind is float and isinstance(value, str) and EXPONENT.fullmatch(value):
        return float(value)  # YAML 1.1 reads 1e-4, without a point, as text
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise _wrong(where, value, names[kind])
    if kind is int and abs(value) > MAX_WHOLE:
        raise _wrong(where, value, "a whole number that fits 64 bits")
    if kind is str and _UNWRITABLE.search(value):
        raise _wrong(where, value, "a text without NUL and halves of characters")
    return value


def _build_dataclass(cls: Any, tree: Any, where: str) -> Any:
    if tree is None:
        tree = {}  # an empty YAML section
    if not isinstance(tree, Mapping):
        raise _wrong(where, tree, f"a section with {', '.join(f.name for f in fields(cls))}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]
    for name in tree:
        if name not in known:
            hint = nearest(str(name), known)
            raise SettingsError(f"{where}: unknown key {shown(name)}; {hint}")
    values = {name: _coerce(value, hints[name], f"{where}: {name}") for name, value in tree.items()}
    try:
        return cls(**values)
    except ValueError as error:  # a class's own __post_init__ check
        raise SettingsError(f"{where}: {error}") from None


def _wrong(where: str, value: Any, wanted: str) -> SettingsError:
    return SettingsError(f"{where} must be {wanted}, got {shown(value)}")


def shown(value: Any) -> str:
    """Return `value` as a message shows it: at most 80 characters, whatever it holds."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother, brief.maxlong = 3, 80, 80, 40
    try:
        text = brief.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"a number of {value.bit_length()} bits"
    return text if len(text) <= 80 else text[:79] + "…"


def to_tree(settings: Any) -> Any:
    """Return settings as plain values, ready for YAML or JSON."""
    if is_dataclass(settings) and not isinstance(settings, type):
        return {f.name: to_tree(getattr(settings, f.name)) for f in fields(settings)}
    if isinstance(settings, Mapping):
        return {k: to_tree(v) for k, v in settings.items()}
    if isinstance(settings, tuple | list):
        return [to_tree(v) for v in settings]
    return settings


def digest(*values: Any) -> str:
    """Return a short digest (16 hex digits) of plain values: the name of what they lead to."""
    text = json.dumps([to_tree(v) for v in values], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
