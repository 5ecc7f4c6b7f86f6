"""The command line: quick to start, strict with what it is given, clear about what went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avdata.errors import RETRYABLE, Reason

ROOT = Path(__file__).resolve().parents[2]
HEAVY = [
    "torch",
    "tensorflow",
    "distributed",
    "dask",
    "pandas",
    "pyarrow",
    "numpy",
    "av",
    "decord",
    "onnxruntime",
    "ai_edge_litert",
    "yt_dlp",
    "scipy",
    "PIL",
    "webdataset",
    "jinja2",
    "fsspec",
]


def avdata(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avdata.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.mark.parametrize("code", ["import avdata", "import avdata.cli.app", "import avdata.clip"])
def test_starting_loads_nothing_heavy(code: str) -> None:
    seen = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(seen.stdout.split()) & set(HEAVY)


def test_stages_is_never_imported_by_avdata() -> None:
    for path in (ROOT / "avdata").rglob("*.py"):
        text = path.read_text()
        assert "import stages" not in text, path
        assert "from stages" not in text, path


def test_help_names_every_step() -> None:
    done = avdata("--help")
    assert done.returncode == 0
    for command in ("fetch", "trim", "tag", "select", "shard", "run", "report", "verify", "show"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing.yaml"], "cannot read the pipeline file nothing.yaml"),
        (["run", "bad.yaml"], "unknown key 'stepz'; did you mean steps?"),
        (["run", "type.yaml"], "seed must be a whole number, got 'one'"),
        (["run", "empty.yaml"], "a run needs a manifest"),
        (["run", "good.yaml", "--until", "bake"], "--until takes one of fetch, trim"),
        (["run", "good.yaml"], "manifest: there is no gone.csv, neither in the working directory"),
        (["fetch", "gone.csv", "-o", "out"], "cannot read the manifest"),
        (["fetch", "m.csv"], "say where the run goes"),
        (["fetch", "m.csv", "-o", "out", "--set", "steps.fetch.retries"], "key=value"),
        (["fetch", "no-url.csv", "-o", "out"], "url"),
        (["fetch", "empty.csv", "-o", "out"], "empty.csv"),
        (["verify", "nowhere"], "nowhere"),
        (["show", "nowhere"], "nowhere"),
        (["report", "nowhere"], "nowhere is no run folder"),
        (["run", "good.yaml", "-w", "-1"], "Invalid value for '--workers'"),
        (["run", "good.yaml", "--retry"], "No such option"),
        (["demo-data", "new", "--videos-per-kind", "0"], "'--videos-per-kind'"),
        (["manifest", "check", "gone.csv"], "gone.csv: No such file or directory"),
        (["manifest", "import", "greatest_hits", "m.csv"], "there is nothing to take"),
        (["manifest", "convert", "m.csv", "new.xls"], "cannot tell the format of new.xls"),
        (["weights", "get", "nope"], "no weights are called 'nope'"),
    ],
)
def test_a_wrong_command_says_what_to_do(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.yaml").write_text("stepz: {}")
    (tmp_path / "type.yaml").write_text("seed: one")
    (tmp_path / "empty.yaml").write_text("name: x")
    (tmp_path / "good.yaml").write_text("manifest: gone.csv")
    (tmp_path / "m.csv").write_text("url\n")
    (tmp_path / "no-url.csv").write_text("link\nhttp://127.0.0.1/a.mp4\n")
    (tmp_path / "empty.csv").write_text("")
    done = avdata(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("s3fs", ["manifest", "check", "s3://bucket/m.csv"], "cluster"),
        ("s3fs", ["show", "s3://bucket/run"], "cluster"),
        ("dask_jobqueue", ["fetch", "m.csv", "-o", "run", "--slurm", "slurm.yaml"], "cluster"),
        (
            "tensorflow_hub",
            ["tag", "m.csv", "-o", "run", "--set", "steps.tag.yamnet.backend=tfhub"],
            "tfhub",
        ),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    tmp_path: Path, package: str, arguments: list[str], extra: str
) -> None:
    write_manifest(tmp_path)
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = {['avdata', *arguments]!r}\n"
        "from avdata.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"pip install 'avdata[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def write_manifest(folder: Path) -> Path:
    from tests.media_factory import make_video, noise_track

    video = make_video(
        folder / "v.mp4", seconds=3, width_px=640, height_px=480, sound=noise_track(3, 16000)
    )
    path = folder / "m.csv"
    path.write_text(f"url,start_ms,end_ms\n{video},0,1000\n{video},1000,2000\n")
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """Return a folder on a file system of its own with very little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a tmpfs")
    return folder


def test_a_full_disk_ends_the_run_with_nothing_half_written(
    tmp_path: Path, small_disk: Path
) -> None:
    try:
        manifest = write_manifest(tmp_path)
        done = avdata("shard", manifest, "-o", small_disk, "--set", "steps.tag.taggers=[]")
        assert done.returncode == 2, done.stderr
        assert "no space left" in done.stderr
        assert "Traceback" not in done.stderr
        names = [p.name for p in small_disk.rglob("*") if p.is_file()]
        assert not any(name.endswith(".tar") for name in names)
        assert not any(name.startswith(".tmp-") for name in names)
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    output = tmp_path / "locked"
    output.mkdir()
    output.chmod(0o500)
    target = Path("/proc/avdata") if os.geteuid() == 0 else output  # root may write anywhere else
    done = avdata("fetch", manifest, "-o", target)
    assert done.returncode == 2
    assert str(target) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_generated_docs_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/make_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_reason_has_advice_in_the_report() -> None:
    from avdata.report.advice import ADVICE

    assert set(ADVICE) == set(map(str, Reason))
    assert set(Reason) >= RETRYABLE


def test_no_source_file_is_long() -> None:
    for path in [*(ROOT / "avdata").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 350, path


def commands(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command, groups included."""
    yield names
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, *names, name)


def test_every_help_has_one_look() -> None:
    from typer.main import get_command
    from typer.testing import CliRunner

    from avdata.cli.app import app

    seen = list(commands(get_command(app)))
    assert ("manifest", "check") in seen
    for words in seen:
        text = CliRunner().invoke(app, [*words, "--help"]).output
        assert text.startswith(f"Usage: {' '.join(['avdata', *words])}"), words
        assert "\nOptions:\n" in text
        assert "╭" not in text


def test_shells_can_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # whatever runs us
    shown = avdata("--show-completion", "bash")
    assert "complete" in shown.stdout
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['avdata']; import avdata.cli as c; c.main()",
        ],
        env={
            **os.environ,
            "_AVDATA_COMPLETE": "complete_bash",
            "COMP_WORDS": "avdata man",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["manifest"], done.stderr


def test_quiet_prints_errors_alone(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    table = manifest.read_text().replace("\n", ",x\n").replace("end_ms,x", "end_ms,caption")
    manifest.write_text(table)
    loud = avdata("fetch", manifest, "-o", tmp_path / "loud")
    assert "caption" in loud.stderr
    assert "fetch" in loud.stdout
    quiet = avdata("fetch", manifest, "-o", tmp_path / "quiet", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (tmp_path / "quiet/fetch.parquet").is_file()
    failed = avdata("fetch", tmp_path / "gone.csv", "-o", tmp_path / "quiet", "-q")
    assert failed.returncode == 2
    assert "gone.csv" in failed.stderr
