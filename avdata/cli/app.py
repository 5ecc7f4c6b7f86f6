"""The command line. Imports what a command needs when it runs, so that --help is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avdata.cli import demo as cli_demo
from avdata.cli import manifest as cli_manifest
from avdata.cli import weights as cli_weights
from avdata.errors import AvdataError, RunError

if TYPE_CHECKING:
    from avdata.config import Pipeline

INTERRUPTED = 130
"""Exit code that typer makes of Ctrl-C."""

app = typer.Typer(
    name="avdata",
    help="Clean pairs of sight and sound, from a list of videos to training shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("demo")(cli_demo.demo)
app.command("demo-data")(cli_demo.demo_data)
app.add_typer(cli_manifest.app, name="manifest")
app.add_typer(cli_weights.app, name="weights")

Input = Annotated[
    str, typer.Argument(help="A manifest (CSV, JSONL, Parquet) or the table an earlier step wrote.")
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Run folder; default: the folder of the step's table."),
]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Pipeline file to take settings from.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting: steps.trim.window_s=3. May be repeated."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random choice.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        min=0,
        help="Processes of a Dask cluster on this machine; 0: all in one process. Default: "
        "without Dask, on all cores.",
    ),
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Address of a Dask scheduler, tcp://HOST:PORT.")
]
Slurm = Annotated[
    str | None,
    typer.Option("--slurm", help="YAML file for dask_jobqueue.SLURMCluster, plus `jobs`."),
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait-s",
        min=0,
        help="How long a cluster may be without a worker; default: 60, with --slurm 3600.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="With --slurm: print the job script, submit nothing.")
]
Retry = Annotated[
    bool, typer.Option("--retry-failed", help="Fetch again what failed and may succeed by now.")
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from avdata import __version__

        typer.echo(f"avdata {__version__}")
        raise typer.Exit


@app.command("run")
def run_command(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline file, such as pipelines/demo.yaml.")],
    output: Output = None,
    until: Annotated[str, typer.Option("--until", help="Stop after this step.")] = "shard",
    workers: Workers = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    wait_s: Wait = None,
    dry_run: DryRun = False,
    retry_failed: Retry = False,
    set_: Set = None,
) -> None:
    """Run a whole pipeline, or continue it where it stopped."""
    from dataclasses import replace

    from avdata.config import load_pipeline

    if dry_run:
        _print_job_script(slurm)
        return
    settings = load_pipeline(pipeline, set_ or ())
    settings = replace(settings, output=output or settings.output or f"runs/{settings.name}")
    where = {"workers": workers, "scheduler": scheduler, "slurm": slurm, "wait_s": wait_s}
    _run(settings, until, where, retry_failed)


def _step_command(step: str, help: str) -> None:
    @app.command(step, help=help)
    def command(
        input: Input,
        output: Output = None,
        config: Config = None,
        seed: Seed = None,
        workers: Workers = None,
        scheduler: Scheduler = None,
        slurm: Slurm = None,
        wait_s: Wait = None,
        dry_run: DryRun = False,
        retry_failed: Retry = False,
        set_: Set = None,
    ) -> None:
        from dataclasses import replace

        from avdata.config import load_pipeline, pipeline_from_overrides

        if dry_run:
            _print_job_script(slurm)
            return
        overrides = set_ or ()
        settings = (
            load_pipeline(config, overrides) if config else pipeline_from_overrides(overrides)
        )
        settings = replace(
            settings,
            manifest=input,
            output=output or settings.output or _folder_of_table(input),
            seed=settings.seed if seed is None else seed,
        )
        settings = replace(settings, name=settings.name or Path(settings.output).name)
        where = {"workers": workers, "scheduler": scheduler, "slurm": slurm, "wait_s": wait_s}
        _run(settings, step, where, retry_failed)


_step_command("fetch", "Download or link the sources of a manifest, and verify them.")
_step_command("trim", "Cut exact clips: sound, candidate frames, optionally mp4.")
_step_command("tag", "Measure: YAMNet classes, loudness, silence, stillness, scene cuts.")
_step_command("select", "Accept or reject by what was measured, and pick the best frames.")
_step_command("shard", "Pack the accepted clips into WebDataset shards.")


def _folder_of_table(table: str) -> str:
    """Return the run folder a step table lies in; a manifest needs --output instead."""
    from avdata.errors import SettingsError
    from avdata.steps import PART_STEPS

    folder, _, name = table.rpartition("/")
    if name.removesuffix(".parquet") not in PART_STEPS:
        raise SettingsError(f"say where the run goes: avdata ... {table} --output FOLDER")
    return folder or "."


def _print_job_script(slurm: str | None) -> None:
    from avdata.errors import SettingsError

    if slurm is None:
        raise SettingsError("--dry-run shows the job script of --slurm FILE")
    from avdata.run.slurm import job_script

    typer.echo(job_script(slurm))


def _run(settings: Pipeline, last_step: str, where: Mapping[str, Any], retry_failed: bool) -> None:
    """Run a pipeline up to a step; `where` holds what `executors.executor` takes."""
    from avdata.cli.terminal import new_console, print_summary
    from avdata.errors import SettingsError
    from avdata.run.executors import executor
    from avdata.run.pipeline import STEPS, run
    from avdata.run.progress import Progress

    if last_step not in STEPS:
        raise SettingsError(f"--until takes one of {', '.join(STEPS)}, got {last_step!r}")
    console = new_console()
    progress = Progress(console)
    with executor(**where, say=progress.say) as place:
        summary = run(settings, place, progress, last_step=last_step, retry_failed=retry_failed)
    print_summary(summary, console)
    if last_step == "shard" and settings.report:
        report = f"{settings.output.rstrip('/')}/report.html"
        console.print(f"report: {report}", highlight=False, soft_wrap=True)


@app.command("report")
def report_command(
    folder: Annotated[str, typer.Argument(help="Run folder.")],
) -> None:
    """Write report.html, one self-contained page about a run."""
    from avdata.report import write_report

    typer.echo(write_report(folder))


@app.command("verify")
def verify_command(
    folder: Annotated[str, typer.Argument(help="Run folder or shard folder.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every sample.")] = False,
) -> None:
    """Prove that no shard is missing or changed."""
    from avdata.shards.verify import verify

    problems = verify(folder, deep=deep)
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        typer.echo(f"{folder}: {len(problems)} problems", err=True)
        raise typer.Exit(1)
    typer.echo(f"{folder}: all shards are there and unchanged")


@app.command("show")
def show_command(
    path: Annotated[str, typer.Argument(help="Run folder, clip table or shard.")],
    key: Annotated[str | None, typer.Argument(help="Key of one clip.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows to list.")] = 20,
    image: Annotated[
        Path | None, typer.Option("--image", help="Write a contact sheet of the clip here.")
    ] = None,
) -> None:
    """Look into a run, a table, one clip or a shard."""
    from avdata.cli.show import show
    from avdata.cli.terminal import new_console

    show(path, key, limit=limit, image=image, console=new_console())


def main() -> None:
    """Run the command line; user errors end with their message and exit code 2."""
    try:
        app(standalone_mode=True)
    except RunError as error:
        typer.echo(f"avdata: {error}", err=True)
        sys.exit(1)
    except AvdataError as error:
        typer.echo(f"avdata: {error}", err=True)
        sys.exit(2)
    except SystemExit as ending:
        if ending.code == INTERRUPTED:
            typer.echo("avdata: stopped; the same command continues where it was", err=True)
            sys.stdout.flush()
            # What is on disk is whole at any time, and a thread may wait for a stalled server.
            os._exit(INTERRUPTED)
        raise
