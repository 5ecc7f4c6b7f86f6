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
from avdata.cli import prune as cli_prune
from avdata.cli import weights as cli_weights
from avdata.cli.options import (
    AllowCrashed,
    Columns,
    Config,
    Deep,
    DryRun,
    Input,
    Output,
    Quiet,
    Retry,
    Scheduler,
    Seed,
    Set,
    Slurm,
    Wait,
    Workers,
    column_mapping,
    new_app,
)
from avdata.errors import AvdataError, RunError, SettingsError
from avdata.run.lean import without_pandas
from avdata.shipped import pipeline_file

if TYPE_CHECKING:
    from avdata.config import Pipeline

INTERRUPTED = 130
"""Exit code that typer makes of Ctrl-C."""

app = new_app(
    "Clean pairs of sight and sound, from a list of videos to training shards.", name="avdata"
)

app.command("demo")(cli_demo.demo)
app.command("demo-data")(cli_demo.demo_data)
app.command("prune")(cli_prune.prune)
app.add_typer(cli_manifest.app, name="manifest")
app.add_typer(cli_weights.app, name="weights")


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
    pipeline: Annotated[
        str, typer.Argument(help="Pipeline file, or the name of one that travels along: demo.")
    ],
    output: Output = None,
    until: Annotated[str, typer.Option("--until", help="Stop after this step.")] = "shard",
    workers: Workers = None,
    scheduler: Scheduler = None,
    slurm: Slurm = None,
    wait_s: Wait = None,
    dry_run: DryRun = False,
    retry_failed: Retry = False,
    allow_crashed: AllowCrashed = False,
    deep: Deep = False,
    columns: Columns = None,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Run a whole pipeline, or continue it where it stopped."""
    from dataclasses import replace

    from avdata.config import load_pipeline
    from avdata.located import check_found, paths_used

    if dry_run:
        _print_job_script(slurm)
        return
    settings = load_pipeline(pipeline, set_ or ())
    check_found(settings, pipeline_file(pipeline).parent, paths_used(settings, _steps_to(until)))
    settings = replace(
        settings,
        output=output or settings.output or f"runs/{settings.name}",
        columns={**settings.columns, **column_mapping(columns)},
    )
    options = {"retry_failed": retry_failed, "allow_crashed": allow_crashed, "deep": deep}
    place = {"workers": workers, "scheduler": scheduler, "slurm": slurm, "wait_s": wait_s}
    _run(settings, until, place, options, quiet)


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
        allow_crashed: AllowCrashed = False,
        deep: Deep = False,
        columns: Columns = None,
        quiet: Quiet = False,
        set_: Set = None,
    ) -> None:
        from dataclasses import replace

        from avdata.config import load_pipeline
        from avdata.located import check_found, paths_used
        from avdata.run.settings import settings_of_table

        if dry_run:
            _print_job_script(slurm)
            return
        overrides = set_ or ()
        if config:
            settings = load_pipeline(config, overrides)
            used = paths_used(settings, (step,)) - {"manifest"}
            check_found(settings, pipeline_file(config).parent, used)
        else:
            settings = settings_of_table(input, overrides)
        settings = replace(
            settings,
            manifest=input,
            output=output or settings.output or _folder_of_table(input),
            seed=settings.seed if seed is None else seed,
            columns={**settings.columns, **column_mapping(columns)},
        )
        settings = replace(settings, name=settings.name or Path(settings.output).name)
        options = {"retry_failed": retry_failed, "allow_crashed": allow_crashed, "deep": deep}
        place = {"workers": workers, "scheduler": scheduler, "slurm": slurm, "wait_s": wait_s}
        _run(settings, step, place, options, quiet)


_step_command("fetch", "Download or link the sources of a manifest, and verify them.")
_step_command("trim", "Cut exact clips: sound, candidate frames, optionally mp4.")
_step_command("tag", "Measure: YAMNet classes, loudness, silence, stillness, scene cuts.")
_step_command("select", "Accept or reject by what was measured, and pick the best frames.")
_step_command("shard", "Pack the accepted clips into WebDataset shards.")


def _steps_to(last_step: str) -> tuple[str, ...]:
    """Return the steps of a run up to `last_step`; raises SettingsError if it is none."""
    from avdata.run.pipeline import STEPS

    if last_step not in STEPS:
        raise SettingsError(f"--until takes one of {', '.join(STEPS)}, got {last_step!r}")
    return STEPS[: STEPS.index(last_step) + 1]


def _folder_of_table(table: str) -> str:
    """Return the run folder a step table lies in; a manifest needs --output instead."""
    from avdata.steps import PART_STEPS

    folder, _, name = table.rpartition("/")
    if name.removesuffix(".parquet") not in PART_STEPS:
        raise SettingsError(f"say where the run goes: avdata ... {table} --output FOLDER")
    return folder or "."


def _print_job_script(slurm: str | None) -> None:
    if slurm is None:
        raise SettingsError("--dry-run shows the job script of --slurm FILE")
    from avdata.run.slurm import job_script

    typer.echo(job_script(slurm))


def _run(
    settings: Pipeline,
    last_step: str,
    place: Mapping[str, Any],
    options: dict[str, bool],
    quiet: bool,
) -> None:
    from avdata.cli.terminal import new_console, print_summary
    from avdata.run.executors import executor
    from avdata.run.pipeline import run
    from avdata.run.progress import Progress

    console = new_console(quiet)
    progress = Progress(console)
    with executor(**place, say=progress.say) as where:
        summary = run(settings, where, progress, last_step=last_step, **options)
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
    without_pandas()
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
