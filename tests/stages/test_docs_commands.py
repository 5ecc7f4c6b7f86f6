"""Every command that the documentation shows is one that the programs take."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from typer.main import get_command

from avdata.cli.app import app
from avdata.config import Pipeline
from avdata.manifest.datasets import load_dataset
from avdata.manifest.importers import IMPORTERS
from avdata.shipped import find, pipeline_file
from stages.engine import launch
from stages.generate import parser as generate_parser
from stages.user_study import app as study
from tests.stages.test_advice import resolves, stages  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "manifests/README.md", "Makefile")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "stages").rglob("*.md")),
    *sorted((ROOT / "pipelines").glob("*.yaml")),
]
COMMAND = re.compile(r"(avdata|torchrun .*?-m stages\.\w+|python -m stages\.\w+)( .*|$)")
INLINE = re.compile(r"`((?:avdata |python -m stages\.)[^`]*)`")
MAKE = {"$(BIN)/": "", "$(STAGE)": "python -m stages.", "$(DEMO)": "pipelines/demo.yaml"}


def shown() -> Iterator[tuple[str, str]]:
    """Yield place and text of each command in a block, in a comment or within a sentence."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for name, value in MAKE.items():
            text = text.replace(name, value)
        for number, line in enumerate(text.splitlines(), start=1):
            place = f"{page.relative_to(ROOT)}:{number}"
            bare = re.sub(r"^(?:    |\t@?|#   |\$ )", "", line)
            if bare != line or line.startswith(("avdata ", "python -m", "torchrun ")):
                if match := COMMAND.match(bare.strip()):
                    yield place, match[0]
            elif not page.name.startswith("commands"):
                for inline in INLINE.findall(line):
                    yield place, inline


def words_of(text: str) -> list[str]:
    """Return the words of a command up to its comment or to the … that stands for more."""
    text = re.sub(r"\[(--.*)\]", r"\1", text)  # what may be left out
    words = shlex.split(text.partition("…")[0].replace("$(LOCALIZER)", "l.onnx"), comments=True)
    return [word for word in words if not word.startswith("$")]


def click_accepts(command: Any, words: list[str]) -> list[str]:
    """Parse words as a typer command; return what `--set` was given. Raises click.UsageError."""
    name = ""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            raise click.UsageError(f"no command {name}")
        command = command.commands[name]
    if hasattr(command, "commands") or (not words and name):
        return []  # a group, or a command that is only named
    try:
        context = command.make_context(name, list(words))
    except click.exceptions.Exit:  # --help
        return []
    return list(context.params.get("set_") or ())


def stage_accepts(program: str, words: list[str]) -> list[str]:
    if program == "user_study":
        return click_accepts(get_command(study), words)
    if not words:
        return []  # only named
    parser = generate_parser() if program == "generate" else launch._parser(program, None)
    if program != "generate":
        parser.add_argument("--fresh", action="store_true")
        if not [word for word in words if not word.startswith("-")]:
            words = ["x.yaml", *words]
    given = parser.parse_args(words)
    return list(getattr(given, "overrides", ()))


@pytest.fixture(autouse=True)
def _errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def error(self: argparse.ArgumentParser, message: str) -> None:
        raise click.UsageError(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", error)


def test_every_command_is_understood(stages: Mapping[str, Any]) -> None:  # noqa: F811
    wrong, programs = [], set()
    for place, text in shown():
        words = words_of(text)
        try:
            if words[0] == "avdata":
                sets = click_accepts(get_command(app), words[1:])
                programs.update(words[1:2])
            else:
                at = words.index("-m")
                program = words[at + 1].removeprefix("stages.")
                if program == "NAME":
                    continue
                assert find_spec(f"stages.{program}"), program
                sets = stage_accepts(program, words[at + 2 :])
                programs.add(program)
            for key in (override.partition("=")[0] for override in sets):
                path = key.split(".")
                known = (
                    resolves(stages.get(path[1]), path[2:])
                    if path[0] == "stages"
                    else resolves(Pipeline, path)
                )
                assert known, f"no setting {key}"
        except (click.UsageError, AssertionError, ValueError, SystemExit) as error:
            wrong.append(f"{place}: {text}: {error}")
    assert not wrong, "\n".join(wrong)
    commands = {"run", "show", "verify", "fetch", "manifest", "train_localizer", "evaluate"}
    assert programs >= {*commands, "generate", "user_study", "ablate"}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
@pytest.mark.parametrize("target", ["demo", "demo-avstyle", "demo-robust"])
def test_every_command_of_a_demo_is_understood(target: str) -> None:
    """What make would run, with its variables filled in; nothing is run."""
    asked = ["make", "--dry-run", "--no-print-directory", target]
    made = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [shlex.split(line) for line in made.stdout.replace("\\\n", " ").splitlines()]
    programs = [words for words in commands if words[1:2] == ["-m"] and "stages." in words[2]]
    assert len(programs) >= 5
    for words in programs:
        stage_accepts(words[2].removeprefix("stages."), words[3:])
        for path in (word for word in words if word.startswith("pipelines/")):
            assert (ROOT / path).is_file(), path


def test_named_pipelines_datasets_and_importers_exist() -> None:
    wrong = []
    for place, text in shown():
        for path in re.findall(r"\bpipelines/[\w-]+\.yaml", text):
            if not (ROOT / path).is_file() and Path(path).stem not in ("x", "my", "NAME"):
                wrong.append(f"{place}: {path}")
        for name in re.findall(r"^avdata manifest (?:get|import) ([a-z_0-9]+)", text):
            if name not in IMPORTERS and find("manifests", name) is None:
                wrong.append(f"{place}: {name}")
    assert not wrong, "\n".join(wrong)
    assert pipeline_file("demo").is_file()
    assert load_dataset("vggsound").rows
