"""yt-dlp in child processes: what a site makes of it ends with the time of its source.

A child answers one request after the other, as JSON over a pipe; it is killed, together with the
ffmpeg that it may run, when the time is over, when the fetch is called off, and when its parent
dies. Run as `python -m avdata.sources.ytdlp_child`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import avdata
from avdata.config import FetchSettings
from avdata.errors import AvdataError, ClipError, Reason, SettingsError, StoreError
from avdata.sources import Fetched
from avdata.sources.limits import Limits, RateLimiter
from avdata.strict import build, to_tree

IDLE_S = 30.0  # a child that is not asked for so long ends: it holds 80 MB
LOOK_S = 0.1  # how often the parent looks whether it is called off

_idle: list[_Child] = []
_site_lock = threading.Lock()


def _forget() -> None:
    """Leave the children to the process that started them."""
    while _idle:
        os.close(_idle.pop()._life)


os.register_at_fork(after_in_child=_forget)


def is_known_site(url: str, settings: FetchSettings, limits: Limits) -> bool:
    """Tell whether yt-dlp has an extractor for this site (the generic one aside)."""
    return bool(_ask({"task": "is_known_site", "url": url}, settings, limits))


def fetch(
    url: str,
    folder: Path,
    settings: FetchSettings,
    limits: Limits,
    section_ms: tuple[int, int] | None = None,
) -> Fetched:
    """Download the one video behind `url`, as `ytdlp.fetch` does, within the time of `limits`."""
    request = {"task": "fetch", "url": url, "folder": str(folder), "section_ms": section_ms}
    if settings.sleep_s <= 0:
        return _fetched(_ask(request, settings, limits))
    with _site_lock:
        try:
            return _fetched(_ask(request, settings, limits))
        finally:
            limits.pause(settings.sleep_s)


def _fetched(answer: dict[str, str]) -> Fetched:
    return Fetched(Path(answer["path"]), answer["sha256"], answer["suffix"])


def _ask(request: dict[str, Any], settings: FetchSettings, limits: Limits) -> Any:
    """Return a child's answer to a request; raises what it raised, or ClipError (timeout)."""
    request |= {"settings": to_tree(settings)}
    child = _idle_child(settings.ytdlp_plugins) or _Child(settings.ytdlp_plugins)
    try:
        answer = child.ask(request, limits)
    except BaseException:
        child.kill()
        raise
    _idle.append(child)
    if "reason" in answer:
        raise ClipError(Reason(answer["reason"]), answer["detail"])
    for error in (SettingsError, StoreError, AvdataError):
        if answer.get("error") == error.__name__:
            raise error(answer["detail"])
    if "bug" in answer:
        raise RuntimeError(f"in the child process of yt-dlp:\n{answer['bug']}")
    return answer["result"]


def _idle_child(plugins: tuple[str, ...]) -> _Child | None:
    with suppress(IndexError):
        while True:
            child = _idle.pop()
            if child.plugins == plugins and child.is_alive():
                return child
            child.kill()
    return None


class _Child:
    """A child process and the way to talk to it."""

    def __init__(self, plugins: tuple[str, ...]) -> None:
        self.plugins = plugins
        self._connection, theirs = Pipe()
        end_of_life, self._life = os.pipe()
        place = str(Path(avdata.__file__).parents[1])
        path = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
        arguments = (str(theirs.fileno()), str(end_of_life))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "avdata.sources.ytdlp_child", *arguments],
            pass_fds=(theirs.fileno(), end_of_life),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C is for this process alone; killed as a group
        )
        theirs.close()
        os.close(end_of_life)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """Send a request and wait for its answer while there is time."""
        try:
            self._send(request | {"timeout_s": limits.remaining_s()})
            while True:
                if not self._connection.poll(min(LOOK_S, limits.remaining_s())):
                    continue
                answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
                if "took" not in answer:
                    return answer
                limits.rate.took(answer["took"])
                self._send({})
        except (EOFError, OSError):
            raise ClipError(
                Reason.INCOMPLETE, f"yt-dlp's process ended by itself ({self._process.wait()})"
            ) from None

    def _send(self, message: dict[str, Any]) -> None:
        self._connection.send_bytes(json.dumps(message).encode())

    def kill(self) -> None:
        """End the child and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        with suppress(OSError):
            os.close(self._life)


class _RateOfParent(RateLimiter):
    """Asks the parent, whose rate all its children share, how long bytes take."""

    def __init__(self, bytes_per_s: int, connection: Connection) -> None:
        super().__init__(bytes_per_s)
        self._connection = connection

    def took(self, count: int) -> None:
        self._connection.send_bytes(json.dumps({"took": count}).encode())
        self._connection.recv_bytes()


def main() -> None:
    """Answer requests until there are none, or the parent is gone."""
    connection, end_of_life = Connection(int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with_parent, args=(end_of_life,), daemon=True).start()
    with suppress(EOFError, OSError):
        while connection.poll(IDLE_S):
            request = json.loads(connection.recv_bytes())
            connection.send_bytes(json.dumps(_answer(request, connection)).encode())


def _end_with_parent(end_of_life: int) -> None:
    os.read(end_of_life, 1)  # returns when nobody holds the other end any more
    os.killpg(0, signal.SIGKILL)


def _answer(request: dict[str, Any], connection: Connection) -> dict[str, Any]:
    try:
        return {"result": _do(request, connection)}
    except ClipError as error:
        return {"reason": str(error.reason), "detail": error.detail}
    except AvdataError as error:
        return {"error": type(error).__name__, "detail": str(error)}
    except Exception:
        return {"bug": traceback.format_exc()}


def _do(request: dict[str, Any], connection: Connection) -> Any:
    from avdata.sources import ytdlp

    settings = build(FetchSettings, request["settings"], "fetch")
    ytdlp.load_plugins(settings.ytdlp_plugins)
    if request["task"] == "is_known_site":
        return ytdlp.is_known_site(request["url"])
    rate = RateLimiter(None)
    if settings.rate_limit_bytes_s is not None:
        rate = _RateOfParent(settings.rate_limit_bytes_s, connection)
    limits = Limits(settings, rate, left_s=request["timeout_s"])
    section_ms = tuple(request["section_ms"]) if request["section_ms"] else None
    fetched = ytdlp.fetch(request["url"], Path(request["folder"]), settings, limits, section_ms)
    return {"path": str(fetched.path), "sha256": fetched.sha256, "suffix": fetched.suffix}


if __name__ == "__main__":
    main()
