"""Run all benchmarks, or those named: python -m benchmarks [trim tag ...]."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    folder = Path(__file__).parent
    there = sorted(p.stem.removeprefix("bench_") for p in folder.glob("bench_*.py"))
    names = sys.argv[1:] or there
    if unknown := ", ".join(sorted(set(names) - set(there))):
        sys.exit(f"no benchmark is called {unknown}; there are {', '.join(there)}")
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        # A process each, so that imports and memory of one do not count for the next.
        command = [sys.executable, "-m", f"benchmarks.bench_{name}"]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
