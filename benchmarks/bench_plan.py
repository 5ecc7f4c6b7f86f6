"""Plan and summarise a manifest of a million rows, against a bare pass of csv.reader over it.

Planning validates every row, keeps the clips of a source together and writes the parts; summarising
joins the parts' tables into one and writes the report about them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import measure

PLAN = """
import sys
from avdata.run.plan import make_plan
from avdata.store import Store
make_plan(Store(sys.argv[2]), sys.argv[1])
"""
SUMMARISE = """
import sys
from avdata.run.plan import make_plan, part_path
from avdata.report import write_report
from avdata.store import Store
from avdata.tables import concatenate
store = Store(sys.argv[2])
plan = make_plan(store, sys.argv[1])
rows = concatenate(store, map(part_path, plan.parts), "select.parquet")
assert rows == plan.rows
write_report(store.root)
"""
READ = "import csv, sys; sum(1 for row in csv.reader(open(sys.argv[1], newline='')))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch:
        manifest = Path(scratch) / "m.csv"
        with manifest.open("w") as file:
            file.write("url,start_ms,end_ms,labels,split\n")
            for i in range(rows):
                start = i % 5 * 10000
                url = f"https://www.youtube.com/watch?v=a{i // 5:010d}"
                file.write(f'{url},{start},{start + 10000},"playing guitar",train\n')
        costs = {}
        for name, code in (("csv.reader", READ), ("plan", PLAN), ("summarise", SUMMARISE)):
            costs[name] = measure([[sys.executable, "-c", code, str(manifest), f"{scratch}/run"]])
            cost = costs[name]
            print(
                f"{name:<10}  {cost.cpu_s:6.1f} CPU s  {cost.wall_s:6.1f} s wall  "
                f"{cost.peak_mb:5.0f} MB  {cost.cpu_s / costs['csv.reader'].cpu_s:6.1f} × bare"
            )
        both = costs["plan"].cpu_s + costs["summarise"].cpu_s
        print(f"together    {both:6.1f} CPU s for {rows} rows (aim: 60 s and 1000 MB)")


if __name__ == "__main__":
    main()
