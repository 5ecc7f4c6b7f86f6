"""Existence means complete, locally and behind fsspec."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from avdata.errors import LockedError, StoreError
from avdata.store import Store
from tests.http_server import HttpServer


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}/run")


def test_what_is_written_can_be_read_back(store: Store) -> None:
    store.write_bytes("a/b.bin", b"0123456789")
    assert store.exists("a/b.bin")
    assert store.size("a/b.bin") == 10
    assert store.read_bytes("a/b.bin") == b"0123456789"
    assert store.list("a") == ["b.bin"]
    assert store.list("nothing") == []
    with store.open("a/b.bin") as file:
        file.seek(4)
        assert file.read(2) == b"45"
    with store.local("a/b.bin") as path:
        assert path.read_bytes() == b"0123456789"
    store.delete("a/b.bin")
    assert not store.exists("a/b.bin")
    store.delete("a/b.bin")


def test_an_unfinished_write_leaves_nothing(store: Store) -> None:
    store.write_bytes("a/b.bin", b"old")

    def fail_half_way() -> None:
        with store.writing("a/b.bin") as path:
            path.write_bytes(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail_half_way()
    assert store.read_bytes("a/b.bin") == b"old"
    assert store.list("a") == ["b.bin"]


def test_a_store_is_small_to_send_to_a_worker(store: Store) -> None:
    store.write_bytes("x", b"1")
    assert len(pickle.dumps(store)) < 300
    assert pickle.loads(pickle.dumps(store)).read_bytes("x") == b"1"


def test_cleaning_removes_only_what_killed_runs_left(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("work/good", b"1")
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys; from pathlib import Path; from avdata.store import Store\n"
            "store = Store(sys.argv[1]); scratch = store.scratch()\n"
            "(Path(scratch.name) / 'left').write_bytes(b'x')\n"
            "with store.writing('work/bad') as path:\n"
            "    path.write_bytes(b'half'); os.kill(os.getpid(), 9)",
            str(tmp_path),
        ],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    others = [tmp_path / ".tmp-notes/a.txt", tmp_path / "work/.tmp-cache", tmp_path / ".scratch/b"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"somebody else's")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 6
    store.clean()
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {tmp_path / "work/good", *others}


def test_cleaning_stays_out_of_the_folders_it_is_told_to(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    unfinished = ".tmp-17-0123abcd-model.safetensors"
    for folder in ("stages/train_localizer/checkpoints", "media/ab", "work/trim", "media", ""):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / unfinished).write_bytes(b"half")
    store.clean(["stages", "media/??"])
    left = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob(unfinished)}
    assert left == {"stages/train_localizer/checkpoints", "media/ab"}


def test_what_is_unfinished_waits_where_cleaning_looks(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with store.writing("media/ab/cd.mp4") as path:
        assert path.parent == tmp_path / "media"
        path.write_bytes(b"1")
    assert store.read_bytes("media/ab/cd.mp4") == b"1"
    with store.writing(str(tmp_path / "else/where.txt")) as path:
        assert path.parent == tmp_path / "else"
        path.write_bytes(b"2")


def test_a_start_that_failed_leaves_no_folder(tmp_path: Path) -> None:
    def fail(output: Path) -> None:
        with Store(str(output)).lock():
            raise ValueError("no")

    (tmp_path / "mine").mkdir()
    for name in ("new", "new/er/yet", "mine", "mine/new"):
        with pytest.raises(ValueError, match="no"):
            fail(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {".lock"}


def test_two_runs_cannot_hold_one_folder_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, time; from avdata.store import Store\n"
        "with Store(sys.argv[1]).lock(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(LockedError, match="another avdata run works in"):
            with Store(str(tmp_path)).lock():
                pass
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
    with Store(str(tmp_path)).lock():
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(StoreError, match=r"no space left while writing .*big"):
        with store.writing("big"), open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert store.list("") == []


def test_a_read_only_folder_is_explained(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        target = tmp_path
    else:  # root writes anywhere but here
        target = Path("/proc/avdata")
    with pytest.raises((StoreError, FileNotFoundError)):
        Store(str(target)).write_bytes("x/y", b"1")


def test_what_a_remote_place_answers_is_told(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with HttpServer(tmp_path) as server:
        store = Store(server.url().rstrip("/"))
        with pytest.raises(StoreError, match=f"cannot reach or use {server.url('new')}"):
            store.write_bytes("new", b"1")  # the server takes nothing
        with pytest.raises(FileNotFoundError):
            store.read_bytes("absent")
        assert not store.exists("absent")
    with pytest.raises(StoreError, match="cannot open nowhere://x"):
        Store("nowhere://x").exists("y")


def test_a_folder_on_another_disk_can_be_written(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second disk")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        (tmp_path / "work").mkdir()
        (tmp_path / "work/trim").symlink_to(other)
        Store(str(tmp_path)).write_bytes("work/trim/a.tar", b"1")
        assert (Path(other) / "a.tar").read_bytes() == b"1"
