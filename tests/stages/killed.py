"""A trainer as a program that dies by SIGKILL in the middle of a step.

python -m tests.stages.killed train_x STEP pipeline.yaml
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from stages.engine.launch import launch
from stages.engine.run import Run


def main() -> None:
    name, at, *arguments = sys.argv[1:]
    trainer = import_module(f"stages.{name}")
    log = Run.log

    def die_or_log(run: Run[Any], values: Mapping[str, Any]) -> None:
        if run.step == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        log(run, values)

    Run.log = die_or_log  # type: ignore[method-assign]
    launch(name, trainer.Settings, trainer.train, arguments)


if __name__ == "__main__":
    main()
