"""Write docs/commands.md from the command line, docs/pipeline.md and docs/stages.md from settings.

python docs/make_reference.py           write them
python docs/make_reference.py --check   exit 1 if they are not current
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent


def commands_page() -> str:
    """Return the reference of every command, its arguments and its options."""
    import typer.main

    from avdata.cli.app import app

    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Made from the command line itself by `docs/make_reference.py`. "
        "Exit codes: 0 done, 1 sources crashed or shards do not verify, 2 something to put right.",
        "",
    ]
    lines.extend(_command("avdata", root))
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        if name != "avdata":
            yield from (f"## `{name}`", "", command.help or "", "")
        for sub in subcommands:
            yield from _command(f"{name} {sub}", subcommands[sub])
        return
    parameters = [p for p in command.params if p.name != "help"]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    options = [p for p in parameters if p.param_type_name == "option"]
    usage = " ".join([name, *(_argument(a) for a in arguments)])
    yield from (f"## `{usage}`", "", command.help or "", "")
    for argument in arguments:
        yield f"- `{argument.name.upper()}`: {argument.help or ''}"
    for option in options:
        value = "" if option.is_flag else " VALUE"
        default = option.default
        shown = f" Default: `{default}`." if default not in (None, False, ()) else ""
        yield f"- `{', '.join(option.opts)}{value}`: {option.help or ''}{shown}"
    yield ""


def _argument(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def pipeline_page() -> str:
    """Return the reference of every key a pipeline file may have."""
    from avdata.config import Pipeline

    lines = [
        "# Pipeline files",
        "",
        "One YAML file is one complete run. Unknown keys and wrong types are errors. "
        "Made from the settings classes by `docs/make_reference.py`; any value can be overridden "
        "with `--set key.sub=value`. A relative path counts from the working directory; if nothing "
        "lies there, from the folder of the pipeline file.",
        "",
    ]
    lines.extend(_section(Pipeline, "", "Top level"))
    return "\n".join(lines).rstrip() + "\n"


def stages_page() -> str:
    """Return the reference of every key under `stages:`, program by program."""
    from stages.programs import programs, settings_class

    lines = [
        "# Stages of a pipeline file",
        "",
        "`python -m stages.NAME PIPELINE.yaml` reads the section `stages.NAME`; other names there "
        "are errors. Made from the settings classes by `docs/make_reference.py`; any value can be "
        "overridden with `--set stages.NAME.key=value`.",
        "",
    ]
    for name, does in programs().items():
        lines.extend(_section(settings_class(name), f"stages.{name}.", f"`stages.{name}`: {does}"))
    return "\n".join(lines).rstrip() + "\n"


def _section(cls: type, prefix: str, title: str) -> Iterator[str]:
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    yield from (
        f"## {title}",
        "",
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
    )
    for field in fields:
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield f"| `{prefix}{field.name}` | section | | {field.metadata['help']} |"
            continue
        default = field.default_factory() if callable(field.default_factory) else field.default
        help_text = field.metadata["help"].replace("|", "\\|")
        yield f"| `{prefix}{field.name}` | {_kind(kind)} | `{_plain(default)}` | {help_text} |"
    yield ""
    for field in fields:
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            path = f"{prefix}{field.name}"
            yield from _section(kind, f"{path}.", f"`{path}`")


def _kind(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if type(None) in arguments:
        return " or ".join(_kind(a) for a in arguments if a is not type(None)) + " or null"
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping of name to {_kind(arguments[1])}"
    if dataclasses.is_dataclass(kind):
        return "{" + ", ".join(f.name for f in dataclasses.fields(kind)) + "}"
    names = {int: "whole number", float: "number", bool: "true/false", str: "text", Any: "any"}
    return names[kind]


def _plain(value: Any) -> str:
    import json

    return json.dumps(value) if value is not dataclasses.MISSING else ""


PAGES = {"commands.md": commands_page, "pipeline.md": pipeline_page, "stages.md": stages_page}


def stale() -> list[str]:
    """Return the names of the pages that are not what the code says."""
    return [
        name
        for name, page in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != page()
    ]


def main() -> None:
    if "--check" in sys.argv:
        if names := stale():
            sys.exit(f"not current: {', '.join(names)}; run `make format`")
        return
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
