"""How long `avdata --help` takes, beside a bare interpreter and one that imports typer.

Aim: at most 0.3 s of CPU. What it must not load is held by tests/avdata/test_cli.py.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

RUNS = 9
COMMANDS = {
    "bare python": [sys.executable, "-c", "pass"],
    "import typer": [sys.executable, "-c", "import typer"],
    "import avdata": [sys.executable, "-c", "import avdata"],
    "avdata --help": [sys.executable, "-m", "avdata.cli", "--help"],
}


def cpu_s(command: list[str]) -> float:
    """Return the CPU seconds, user and system, that a command and its children take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median of each command, and its ratio to a bare interpreter."""
    medians = {
        name: statistics.median(cpu_s(command) for _ in range(RUNS))
        for name, command in COMMANDS.items()
    }
    for name, median_s in medians.items():
        print(f"{name:14} {median_s:6.3f} CPU s   {median_s / medians['bare python']:5.1f} x bare")


if __name__ == "__main__":
    main()
