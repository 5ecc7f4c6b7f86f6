"""How fast manifests are read and checked, and what memory that takes.

    python -m benchmarks.bench_manifest [--rows 1000000 --formats csv jsonl parquet]

Each measurement runs in a process of its own. CPU times are compared to a bare pass over the same
file in the same run: `csv.reader`, `json.loads` per line, or pyarrow's batches as Python lists.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DEFAULT = (("csv", 200_000), ("csv", 1_000_000), ("jsonl", 200_000), ("parquet", 200_000))


def make(path: Path, rows: int) -> None:
    """Write a manifest like VGGSound's, with one bad row in a thousand."""
    from avdata.clip import Clip
    from avdata.manifest import write_manifest

    def clips() -> Iterator[Clip]:
        for n in range(rows):
            video, start_ms = f"{n // 2:011d}", 10_000 * (n % 2)
            url = f"https://www.youtube.com/watch?v={video}"
            yield Clip(
                key=f"vggsound-{video}-{start_ms if n % 1000 else 0:08d}",  # some keys twice
                url=url,
                source_id=video,
                dataset="vggsound",
                start_ms=start_ms,
                end_ms=start_ms + 10_000,
                split="train",
                labels=("people marching",),
                licence="CC BY 4.0",
                attributes={"take": str(n % 7)},
            )

    write_manifest(str(path), clips())


def bare(path: Path) -> int:
    """Pass over the file with its plain reader."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as parquet:
            return sum(len(batch.to_pylist()) for batch in parquet.iter_batches(8192))
    with path.open(newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            return sum(1 for line in file if json.loads(line))
        import csv

        return sum(1 for _ in csv.reader(file)) - 1


def checked(path: Path) -> int:
    """Pass over the file as clips, every row checked."""
    from avdata.manifest import iter_manifest

    return sum(1 for _ in iter_manifest(str(path)))


def measure(what: str, path: Path) -> tuple[int, float, float]:
    """Return rows, CPU seconds and peak memory in MB of one pass in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--pass", what, str(path)], check=True, capture_output=True
    )
    rows, cpu_s, peak_mb = json.loads(done.stdout)
    return rows, cpu_s, peak_mb


def one_pass(what: str, path: Path) -> None:
    """Do one pass and print its measurements as JSON."""
    import resource

    start = time.process_time()
    rows = {"bare": bare, "checked": checked}[what](path)
    cpu_s = time.process_time() - start
    print(json.dumps([rows, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    """Print one line per format and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--formats", nargs="+", default=["csv", "jsonl", "parquet"])
    parser.add_argument("--pass", nargs=2, dest="one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_pass(options.one[0], Path(options.one[1]))
        return
    print(f"{'format':8} {'rows':>9} {'rows/CPU s':>11} {'CPU s':>6} {'x bare':>7} {'peak MB':>8}")
    wanted = [(kind, rows) for rows in options.rows or () for kind in options.formats]
    with tempfile.TemporaryDirectory() as folder:
        for kind, rows in wanted or DEFAULT:
            path = Path(folder) / f"{rows}.{kind}"
            make(path, rows)
            _, bare_s, _ = measure("bare", path)
            seen, cpu_s, peak_mb = measure("checked", path)
            assert seen == rows, f"{seen} of {rows} rows came back"
            print(
                f"{kind:8} {rows:9} {rows / cpu_s:11.0f} {cpu_s:6.1f} {cpu_s / bare_s:7.1f} "
                f"{peak_mb:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
