"""From the command line to a trainer: `launch(name, Settings, train)` is a trainer's last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from avdata.cli.terminal import new_console
from avdata.config import Pipeline, load_pipeline
from avdata.errors import AvdataError, SettingsError
from avdata.located import beside, check_found
from avdata.shipped import pipeline_file
from avdata.store import Store, is_remote
from avdata.strict import build
from stages.engine.errors import TrainingError
from stages.engine.settings import TrainerSettings
from stages.engine.termination import EXIT_CODE, Terminated, Termination

if TYPE_CHECKING:
    from stages.engine.run import Run

S = TypeVar("S", bound=TrainerSettings)
T = TypeVar("T")

PACKAGES = ("avdata", "torch", "lightning-fabric", "numpy", "safetensors")
VARIABLES = re.compile(r"CUDA_|NCCL_|GLOO_|OMP_|MKL_|PYTORCH_|TORCH_|SLURM_(JOB|NNODES|PROCID)")


def stage_folder(pipeline: Pipeline, name: str, settings_class: type | None = None) -> Path:
    """Return where the stage `name` of a run writes; raises SettingsError for a remote output.

    settings_class: the stage's own, by which the advice names the key that its shards go by.
    """
    output = pipeline.output or f"runs/{pipeline.name}"
    if is_remote(output):
        key = settings_class and _shards_key(settings_class)
        rest = f"--set stages.{name}.{key}={output}" if key else "work on a local copy of the run"
        raise SettingsError(
            f"stages write to a local folder, but output is {output}; give --set output=FOLDER and "
            f"{rest}"
        )
    return Path(output) / "stages" / name


def _shards_key(settings_class: type) -> str | None:
    """Return the key in a stage's section that names its shards; None if it has none."""
    hints = get_type_hints(settings_class)
    if "shards" in hints:
        return "shards"
    return "train.shards" if "shards" in get_type_hints(hints.get("train", object)) else None


def read_settings(
    path: str, overrides: Sequence[str], name: str, cls: type[T]
) -> tuple[Pipeline, T]:
    """Return the pipeline, and the section `stages.<name>` of it as settings of class `cls`."""
    pipeline = load_pipeline(path, overrides, stages=(name,))
    pipeline = replace(pipeline, output=pipeline.output or f"runs/{pipeline.name}")
    section = build(cls, pipeline.stages.get(name) or {}, f"{path}: stages.{name}")
    stage_folder(pipeline, name, cls)  # a stage that has nowhere to write says so before it works
    return pipeline, beside(section, pipeline_file(path).parent)


def launch(
    name: str,
    settings_class: type[S],
    train: Callable[[Run[S]], None],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a trainer as a program.

    Ends the process with 0, 2 (the user must act), 130 (stopped from the keyboard) or 143 (ended by
    SIGTERM, after a checkpoint); after the last two, the same command goes on. arguments: instead
    of the command line's.
    """
    parser = _parser(name, train.__doc__)
    parser.add_argument("--fresh", action="store_true", help="forget what was trained before")
    given = parser.parse_args(arguments)
    with explained_ends(name):
        _train(name, settings_class, train, given)


def launch_work(
    name: str,
    settings_class: type[T],
    work: Callable[[argparse.Namespace, Pipeline, T], str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a stage that trains nothing as a program, print what it returns; ends as `launch` does.

    work: from what was given (`pipeline`, `overrides`), the pipeline and the stage's settings.
    """
    given = _parser(name, work.__doc__).parse_args(arguments)
    with explained_ends(name):
        pipeline, settings = read_settings(given.pipeline, given.overrides, name, settings_class)
        check_found(settings, pipeline_file(given.pipeline).parent)
        text = work(given, pipeline, settings)
    print(text, end="")


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=description)
    parser.add_argument("pipeline", help="pipeline file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    return parser


@contextmanager
def explained_ends(
    name: str, stopped: str = "stopped; the same command goes on where it was"
) -> Iterator[None]:
    """End the process with a message and 2, 130 or 143, as `launch` says, and no traceback.

    stopped: what is said to whoever stops it from the keyboard.
    """
    try:
        yield
    except AvdataError as error:
        _end(name, str(error), 2)
    except KeyboardInterrupt:
        _end(name, stopped, 130)
    except Terminated as end:
        _end(name, str(end), EXIT_CODE)


def _train(
    name: str, cls: type[S], train: Callable[[Run[S]], None], given: argparse.Namespace
) -> None:
    pipeline, settings = read_settings(given.pipeline, given.overrides, name, cls)
    check_found(settings, pipeline_file(given.pipeline).parent)
    folder = stage_folder(pipeline, name)
    import torch

    from stages.engine.fabric import leave, make_fabric
    from stages.engine.run import Run

    termination = Termination()
    with termination.caught(), ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":
            store = Store(str(folder))
            stack.enter_context(store.lock())
            store.clean()
            if given.fresh:
                _forget(folder)
            _record(folder)
        fabric = make_fabric(settings.train)
        run = Run(name, settings, pipeline, fabric, folder, new_console(), termination)
        try:
            train(run)
        except torch.OutOfMemoryError as error:
            raise TrainingError(_memory_advice(name, settings, str(error))) from error
        except Terminated as end:
            if end.step is not None:
                leave(fabric)
            raise
        finally:
            run.close()
        leave(fabric)


def _forget(folder: Path) -> None:
    """Remove what an earlier training left; what says "complete" goes first."""
    from stages.engine.checkpoint import unpublish

    unpublish(folder)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _record(folder: Path) -> None:
    """Add this start to environment.jsonl."""
    start = {
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "environment": {k: v for k, v in sorted(os.environ.items()) if VARIABLES.match(k)},
    }
    with (folder / "environment.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(start) + "\n")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """Return the git commit of this code, `+` if files were changed since; None without git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 10}
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, **options).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], check=True, **options)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+" if changes.stdout.strip() else head


def _memory_advice(name: str, settings: Any, error: str) -> str:
    train = settings.train
    advice = [f"lower stages.{name}.train.batch_size below {train.batch_size}"]
    if train.precision != "bf16":
        advice.insert(0, f"set stages.{name}.train.precision=bf16")
    try:
        replace(settings, train=replace(train, accumulate=2 * train.accumulate))
    except ValueError:
        pass  # of losses that compare the whole batch
    else:
        advice.insert(0, f"raise stages.{name}.train.accumulate above {train.accumulate}")
    return f"no GPU memory left ({error.splitlines()[0]}): {'; or '.join(advice)}"


def _end(name: str, message: str, code: int) -> None:
    rank = os.environ.get("RANK", "0")
    where = name if rank == "0" else f"{name} (rank {rank})"
    print(f"{where}: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
