"""SLURM: jobs that start Dask workers, submitted by dask-jobqueue."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from avdata.errors import SettingsError
from avdata.parsing import parse_yaml
from avdata.run.cluster import DaskExecutor, Say, wait_for_worker
from avdata.run.jobs import Executor

SLURM_WAIT_S = 3600.0


@contextmanager
def submitted(path: str, wait_s: float | None, say: Say) -> Iterator[Executor]:
    """Submit the jobs a file asks for, and give their workers; the jobs end with the run.

    Raises SettingsError for a bad file, without sbatch or when that refuses; RunError when no
    worker comes within `wait_s`.
    """
    from distributed import Client

    cluster, jobs = _cluster(path)
    if shutil.which("sbatch") is None:
        raise SettingsError(
            "--slurm submits jobs with sbatch, which is not on the PATH: run this on a login node "
            "of the cluster; --dry-run shows the job script anywhere"
        )
    with cluster, Client(cluster) as client:
        _check(cluster.job_script(), path)
        cluster.scale(jobs=jobs)
        say(f"submitted {jobs} SLURM job{'s' if jobs > 1 else ''}")
        wait_s = SLURM_WAIT_S if wait_s is None else wait_s
        wait_for_worker(
            client,
            wait_s,
            say,
            "no SLURM job has started a worker: look at `squeue -u $USER` and at the jobs' logs "
            "(log_directory)",
        )
        yield DaskExecutor(client, wait_s)


def _check(script: str, path: str) -> None:
    """Let sbatch look at the script: dask-jobqueue only logs a refusal, and then waits for ever."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        command = ["sbatch", "--test-only", file.name]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if checked.returncode:
        raise SettingsError(f"SLURM refuses the job of {path}: {checked.stderr.strip()}")


def job_script(path: str) -> str:
    """Return the script that would be submitted for each job; needs no SLURM."""
    cluster, _ = _cluster(path)
    with cluster:
        script: str = cluster.job_script()
        return script


def _cluster(path: str) -> tuple[Any, int]:
    """Return the cluster a file describes, without a job so far, and how many jobs it wants."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError:
        raise SettingsError("--slurm needs dask-jobqueue: pip install 'avdata[cluster]'") from None
    try:
        with open(path, encoding="utf-8") as file:
            options = parse_yaml(file.read())
        jobs = int(options.pop("jobs"))
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{path} must be YAML with `jobs` and the options of dask_jobqueue.SLURMCluster "
            f"(cores, memory, queue, walltime, ...; docs/cluster.md): {error!r}"
        ) from None
    if jobs < 1:
        raise SettingsError(f"{path}: jobs must be at least 1, got {jobs}")
    try:
        return SLURMCluster(**options), jobs
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise SettingsError(f"{path}: {error}") from None
