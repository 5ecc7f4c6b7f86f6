"""The default, all cores, behind a slow server and against `--workers 2`.

Slow: every file of 20 takes 2 s to come. The run is compared with the larger of what fetching alone
takes from that server and what the whole takes from a fast one. `--workers 2` (Dask) is compared
with the default on 80 sources, start-up included.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from avdata.demo import serve
from benchmarks.bench_run import CLIP_S, CLIPS, CROPPED, VIDEOS, command, write_manifest
from benchmarks.floor import input_videos
from benchmarks.measure import Cost, measure

SECONDS_A_FILE = 2.0
PIECES = 10
REPEATS = 4
STARTS_MS = [i * 1000 * CLIP_S for i in range(CLIPS)]


class _Slow(SimpleHTTPRequestHandler):
    """Sends each file in pieces over SECONDS_A_FILE."""

    def copyfile(self, source: Any, outputfile: IO[bytes]) -> None:
        data = source.read()
        for piece in range(PIECES):
            time.sleep(SECONDS_A_FILE / PIECES)
            start, end = (len(data) * part // PIECES for part in (piece, piece + 1))
            outputfile.write(data[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def slow_server(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Slow, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def show(name: str, cost: Cost) -> None:
    print(
        f"{name:<24} {cost.cpu_s:6.1f} CPU s  {cost.wall_s:6.1f} s wall  {cost.peak_mb:4.0f} MB",
        flush=True,
    )


def behind_a_slow_server(videos: list[Path], folder: Path) -> None:
    costs = {}
    with slow_server(videos[0].parent) as slow, serve(videos[0].parent) as fast:
        for name, base, step in (
            ("fetch alone, slow", slow, "fetch"),
            ("fetch to shards, fast", fast, "shard"),
            ("fetch to shards, slow", slow, "shard"),
        ):
            manifest, output = folder / f"{name}.csv", folder / name
            write_manifest(manifest, base, videos, STARTS_MS, 1000 * CLIP_S)
            costs[name] = measure([command(manifest, output, CROPPED, step=step)])
            show(name, costs[name])
    network, compute, both = (cost.wall_s for cost in costs.values())
    print(f"wall ratio               {both / max(network, compute):6.2f}  (aim: at most 1.15)")


def with_dask(videos: list[Path], folder: Path) -> None:
    costs = {}
    with serve(videos[0].parent) as base:
        many = [Path(f"{video.name}?{i}") for i in range(REPEATS) for video in videos]
        write_manifest(folder / "many.csv", base, many, STARTS_MS, 1000 * CLIP_S)
        for name, options in (("default", []), ("--workers 2", ["--workers", "2"])):
            sets = [*CROPPED, "steps.shard.drop_duplicates=false"]
            costs[name] = measure([command(folder / "many.csv", folder / name, sets, *options)])
            show(name, costs[name])
    ratio = costs["--workers 2"].cpu_s / costs["default"].cpu_s
    print(f"CPU ratio                {ratio:6.2f}  (aim: at most 1.20)")


def main() -> None:
    videos = input_videos(VIDEOS)
    with tempfile.TemporaryDirectory() as scratch:
        behind_a_slow_server(videos, Path(scratch))
        with_dask(videos, Path(scratch))


if __name__ == "__main__":
    main()
