"""JSON and YAML that others wrote: read quickly or refused with one line, whatever is in them.

What stands in a file may nest without end, hold numbers of thousands of digits, or repeat itself
until it fills the memory. Here all of that is a ValueError, as any other mistake in the text.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_YAML_CHARS = 2**18  # the parser takes seconds for more
MAX_YAML_VALUES = 100_000  # with every alias written out
MAX_YAML_DEPTH = 100


def parse_json(text: str | bytes, **options: Any) -> Any:
    """Return the value of a JSON text; ValueError for anything else, too deep nesting included."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, of plain types alone.

    A key that a mapping holds twice, of which YAML would keep the last, is an error. Raises
    ValueError for all that is no YAML, too large, too deep, or grows by its aliases.
    """
    import yaml

    if len(text) > MAX_YAML_CHARS:
        raise ValueError(f"it has {len(text)} characters, more than {MAX_YAML_CHARS}")
    if re.search(rf"(?:[\[{{]\s*){{{MAX_YAML_DEPTH}}}", text):
        raise ValueError("it is nested too deeply")
    try:
        value = yaml.load(text, _loader())
        _bound(value, {}, 0)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:  # a number of too many digits, a date that is none
        raise ValueError(str(error).partition(";")[0]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return value


def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in names:
                    raise yaml.constructor.ConstructorError(
                        problem=f"{key.value} is given twice", problem_mark=key.start_mark
                    )
                names.add(str(key.value))
            return super().construct_mapping(node, deep)

    return Loader


def _bound(value: Any, sizes: dict[int, int], depth: int) -> int:
    """Return how many values are in `value`, each alias counted; ValueError if it is too many."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if depth > MAX_YAML_DEPTH:
        raise ValueError("it is nested too deeply")
    if id(value) in sizes:
        size = sizes[id(value)]
    else:
        sizes[id(value)] = MAX_YAML_VALUES + 1  # until it is known: what holds itself is endless
        items = [*value, *value.values()] if isinstance(value, dict) else value
        size = sizes[id(value)] = 1 + sum(_bound(item, sizes, depth + 1) for item in items)
    if size > MAX_YAML_VALUES:
        raise ValueError(f"it stands for more than {MAX_YAML_VALUES} values, aliases written out")
    return size
