"""The demo: make the videos, serve them on this machine, run the whole pipeline on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avdata.cli.options import Quiet

if TYPE_CHECKING:
    from rich.console import Console

Seed = Annotated[int, typer.Option("--seed", help="Seed of the videos.")]
PerKind = Annotated[
    int, typer.Option("--videos-per-kind", min=1, help="Videos of each of the 8 kinds.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Processes; default: one per core.")
]


def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where the videos and their manifest go.")],
    seed: Seed = 0,
    videos_per_kind: PerKind = 2,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Make a small set of mini-hike videos with sound, ground truth and a manifest."""
    from avdata.cli.terminal import new_console

    manifest = _make(folder, seed, videos_per_kind, workers, new_console(quiet))
    if not quiet:
        typer.echo(manifest)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder.")] = Path("runs/demo"),
    pipeline: Annotated[
        str, typer.Option("--pipeline", help="Pipeline to run on the videos: a file, or a name.")
    ] = "demo",
    seed: Seed = 0,
    videos_per_kind: PerKind = 2,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Make the mini-hike videos, serve them on 127.0.0.1, and run the whole pipeline on them."""
    from dataclasses import replace

    from avdata.cli.terminal import new_console, print_summary
    from avdata.config import load_pipeline
    from avdata.demo import DEFAULT_PORT, serve
    from avdata.run.executors import executor
    from avdata.run.pipeline import run
    from avdata.run.progress import Progress

    settings = load_pipeline(pipeline)
    folder = output.with_name(f"{output.name}-data")
    screen = new_console(quiet)
    manifest = _make(folder, seed, videos_per_kind, workers, screen)
    settings = replace(settings, manifest=manifest, output=str(output))
    with serve(folder, DEFAULT_PORT), executor() as where:
        summary = run(settings, where, Progress(screen))
    print_summary(summary, screen)
    screen.print(f"report: {output / 'report.html'}", highlight=False, soft_wrap=True)


def _make(
    folder: Path, seed: int, videos_per_kind: int, workers: int | None, console: Console
) -> str:
    from avdata.demo import make_demo
    from avdata.run.progress import Progress

    with Progress(console).counter("videos") as show:
        manifest = make_demo(
            folder, seed=seed, videos_per_kind=videos_per_kind, workers=workers, progress=show
        )
    return str(manifest)
