"""Connections of urllib3 that end when the time of their source is over."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import urllib3

from avdata.sources.limits import Limits

Pools = TypeVar("Pools", bound=urllib3.PoolManager)

_current = threading.local()


@contextmanager
def watched_by(limits: Limits) -> Iterator[None]:
    """Have `limits` watch every connection that this thread opens or uses again meanwhile."""
    _current.limits = limits
    try:
        yield
    finally:
        del _current.limits


def watchable(pools: Pools) -> Pools:
    """Let the connections of a pool manager be watched, from their first byte on."""
    classes = pools.pool_classes_by_scheme
    pools.pool_classes_by_scheme = {scheme: _watchable(classes[scheme]) for scheme in classes}
    return pools


def _watchable(pool: Any) -> Any:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:  # before any handshake
            opened: socket.socket = super()._new_conn()
            _watch(opened)
            return opened

        def request(self, *arguments: Any, **options: Any) -> None:
            if self.sock is not None:
                _watch(self.sock)
            super().request(*arguments, **options)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _watch(connection: socket.socket) -> None:
    # A duplicate, because TLS takes the descriptor over and http.client closes it early.
    _current.limits.watch(socket.socket(fileno=os.dup(connection.fileno())))
