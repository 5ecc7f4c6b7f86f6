"""The commands of docs/cluster.md are run as they stand there; its SLURM file is a valid one."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from avdata.run.slurm import job_script
from avdata.store import sha256_file
from tests.media_factory import make_video, noise_track

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = {
    "manifest": "m.csv",
    "report": False,
    "steps": {
        "trim": {"mode": "windows", "window_s": 1, "frames_per_clip": 2},
        "tag": {"taggers": ["brightness"]},
    },
}


def commands(chapter: str) -> list[str]:
    """Return the command lines of a chapter of the guide, without comments."""
    text = (DOCS / "cluster.md").read_text().partition(f"## {chapter}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [
        shlex.join(shlex.split(line, comments=True)) for b in blocks for line in b.splitlines()
    ]
    assert lines
    return lines


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with my.yaml and two short videos, the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    names = ["a.mp4", "b.mp4"]
    for seed, name in enumerate(names):
        sound = noise_track(2, 16000, seed=seed)
        make_video(tmp_path / name, seconds=2, fps=5, width_px=48, height_px=32, sound=sound)
    (tmp_path / "m.csv").write_text("\n".join(["url", *names]) + "\n")
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tmp_path


def avdata(command: str) -> str:
    """Run a command of the guide and return what it printed."""
    program, *arguments = shlex.split(command)
    assert program == "avdata"
    return subprocess.run(
        [sys.executable, "-m", "avdata.cli", *arguments], check=True, capture_output=True, text=True
    ).stdout


def shards() -> dict[str, str]:
    return {p.name: sha256_file(p) for p in Path("runs/my/shards").iterdir() if p.is_file()}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.mark.slow
def test_one_machine(here: Path) -> None:
    seen = []
    for command in commands("One machine"):
        avdata(f"{command} -o runs/my")
        seen.append(shards())
        (here / "runs").rename(here / f"run-{len(seen)}")
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]


@pytest.fixture
def daemons() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.slow
def test_dask(here: Path, daemons: ExitStack) -> None:
    address = f"127.0.0.1:{free_port()}"
    ready = [line.replace("HOST:8786", address) for line in commands("Dask")]
    scheduler, worker, run = (line.replace("8786", address.rpartition(":")[2]) for line in ready)
    for command in (f"{scheduler} --host 127.0.0.1 --no-dashboard", f"{worker} --no-dashboard"):
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        daemons.callback(process.wait)
        daemons.callback(process.terminate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "60s")
        assert "dashboard: http://" in avdata(run)
    assert shards()


def test_slurm(here: Path) -> None:
    (here / "slurm.yaml").write_text((DOCS / "slurm.yaml").read_text())
    shown, _ = commands("SLURM")
    script = avdata(shown)
    for line in ("-p cpu", "--cpus-per-task=16", "--mem=30G", "-t 12:00:00"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1 " in script
    assert "--nworkers 16 " in script
    assert not (here / "runs").exists()


def test_every_option_of_the_slurm_file_is_one_of_dask_jobqueue(tmp_path: Path) -> None:
    """What stands there as a comment is for people to use."""
    text = re.sub(r"^# (\w+: )", r"\1", (DOCS / "slurm.yaml").read_text(), flags=re.MULTILINE)
    assert text.count("\ninterface: ib0") == 1
    file = tmp_path / "slurm.yaml"
    file.write_text(text.replace("ib0", "lo"))
    script = job_script(str(file))
    for line in (
        "#SBATCH -A my_project",
        "module load ffmpeg",
        "/shared/envs/avdata/bin/python -m",
    ):
        assert line in script


def test_the_commands_for_s3_are_the_ones_there_are() -> None:
    """test_remote.py runs them against a server; here it is only that their options exist."""
    run, verify = commands("S3")
    assert run == "avdata run my.yaml -o s3://bucket/runs/my"
    assert verify == "avdata verify s3://bucket/runs/my"
