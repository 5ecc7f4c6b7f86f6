"""What a message tells a person to set or to type exists: settings, options, commands."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from avdata.cli.app import app
from avdata.config import Pipeline
from stages.engine import launch
from stages.generate import parser as generate_parser
from stages.user_study import app as study

ROOT = Path(__file__).resolve().parents[2]
KEY = re.compile(r"(?<![\w./-])(steps|fetch|trim|tag|select|shard|stages)((?:\.[a-z_0-9{}]+)+)")
FILE = re.compile(r"\.(parquet|json|yaml|yml|py|tar|csv|md)$")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
COMMAND = re.compile(r"`avdata ((?:[a-z-]+ ?)+)|: avdata ((?:[a-z-]+ ?)+)")
OF_OTHERS = {"--nproc-per-node", "--local-dir"}  # of torchrun, and of `hf download`


def texts(*tops: str) -> Iterator[tuple[str, str]]:
    """Yield place and content of every text in the code but docstrings; {} for what is put in."""
    for path in (file for top in tops for file in sorted((ROOT / top).rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0] if node.body else None
                skipped |= {id(first.value)} if isinstance(first, ast.Expr) else set()
            elif isinstance(node, ast.JoinedStr):
                skipped |= {id(value) for value in node.values}
        for node in ast.walk(tree):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                values = (v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
                yield place, "".join(map(str, values))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in skipped
            ):
                yield place, node.value


def resolves(cls: Any, names: list[str]) -> bool:
    """Tell whether a dotted key is one of a settings class; `{}` stands for any name."""
    if not names:
        return True
    if typing.get_origin(cls) is dict:
        return resolves(typing.get_args(cls)[1], names[1:])
    if not dataclasses.is_dataclass(cls):
        return False
    hints = typing.get_type_hints(cls)
    if names[0] == "{}":
        return any(resolves(kind, names[1:]) for kind in hints.values())
    return names[0] in hints and resolves(hints[names[0]], names[1:])


@pytest.fixture(scope="module")
def stages() -> Mapping[str, Any]:
    """The settings class of each program under stages/."""
    programs = [p.stem for p in (ROOT / "stages").glob("*.py") if "Settings" in p.read_text()]
    found = {name: importlib.import_module(f"stages.{name}") for name in programs}
    return {name: m.Settings for name, m in found.items() if hasattr(m, "Settings")}


def named(words: list[str], stages: Mapping[str, Any]) -> bool:
    if words[0] == "steps":
        return resolves(Pipeline, words)
    if words[0] != "stages":
        return False  # `fetch.proxy` alone is no key: --set wants steps.fetch.proxy
    if (ROOT / "/".join(words)).with_suffix(".py").is_file() or (ROOT / "/".join(words)).is_dir():
        return True  # a program or a module
    classes = stages.values() if words[1] == "{}" else [stages.get(words[1])]
    return any(cls is not None and resolves(cls, words[2:]) for cls in classes)


def test_every_setting_that_is_named_exists(stages: Mapping[str, Any]) -> None:
    wrong, seen = [], 0
    for place, text in texts("avdata", "stages"):
        for match in KEY.finditer(text):
            words = match[0].rstrip(".").split(".")
            if FILE.search(match[0]) or text == match[0]:
                continue  # a file, or a name that is data
            seen += 1
            if not named(words, stages):
                wrong.append(f"{place}: {match[0]}")
    assert not wrong, "\n".join(wrong)
    assert seen > 40


def options_of(command: Any) -> set[str]:
    own = {name for parameter in command.params for name in parameter.opts if name[:2] == "--"}
    return own.union(*(options_of(sub) for sub in getattr(command, "commands", {}).values()))


def parsed_options(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(parsed_options, action.choices.values()))
    return found


def test_every_option_that_is_named_exists() -> None:
    known = options_of(get_command(app)) | parsed_options(generate_parser()) | OF_OTHERS
    known |= parsed_options(launch._parser("any", None)) | options_of(get_command(study))
    for path in (ROOT / "stages").rglob("*.py"):
        known |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text()))
    wrong, seen = [], 0
    for place, text in texts("avdata", "stages"):
        if text.startswith("-"):
            continue  # an argument of another program
        for match in OPTION.finditer(text):
            seen += 1
            if match[0] not in known:
                wrong.append(f"{place}: {match[0]}")
    assert not wrong, "\n".join(wrong)
    assert seen > 40


def test_every_command_that_is_named_exists() -> None:
    root = get_command(app)
    wrong, seen = [], 0
    for place, text in texts("avdata", "stages"):
        for match in COMMAND.finditer(text):
            word, *rest = (match[1] or match[2]).split()
            commands: Mapping[str, Any] = root.commands  # type: ignore[attr-defined]
            if word not in commands:
                wrong.append(f"{place}: {match[0]}")
                continue
            seen += 1
            if rest and hasattr(commands.get(word), "commands"):
                group = commands[word].commands
                if rest[0] not in group:
                    wrong.append(f"{place}: {match[0]}")
    assert not wrong, "\n".join(wrong)
    assert seen > 5
