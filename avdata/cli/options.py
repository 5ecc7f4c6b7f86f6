"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from avdata.errors import SettingsError

Input = Annotated[
    str, typer.Argument(help="A manifest (CSV, JSONL, Parquet) or the table an earlier step wrote.")
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Run folder; default: the folder of the step's table."),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        help="Pipeline file, or name, to take settings from; default: the run whose table this is.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting: steps.trim.window_s=3. May be repeated."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="What a column of the manifest is: start=start_s, link=url, begin=begin (an "
        "attribute). May be repeated.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help="Seed of every random choice; default: of the settings."),
]
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

AllowCrashed = Annotated[
    bool,
    typer.Option(
        "--allow-crashed", help="Pack shards of the rest where sources crashed, and end with 0."
    ),
]
Deep = Annotated[
    bool,
    typer.Option("--deep", help="Compare checksums of media too; make anew what was changed."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors: no progress, no tables.")
]


def new_app(help: str, **options: Any) -> typer.Typer:
    """Return a command line, or a part of it, that looks as all others do."""
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **options,
    )


def column_mapping(pairs: Iterable[str] | None) -> dict[str, str]:
    """Return what `--map COLUMN=MEANING` says; raise SettingsError for anything else."""
    mapping: dict[str, str] = {}
    for pair in pairs or ():
        column, equals, meaning = pair.rpartition("=")
        if not equals or not column or not meaning:
            raise SettingsError(f"--map takes COLUMN=MEANING, such as start=start_s, got {pair!r}")
        mapping[column] = meaning
    return mapping
