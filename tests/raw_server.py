"""A server on 127.0.0.1 that says, byte by byte, what no HTTP library would."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Talk = Callable[[socket.socket, threading.Event], None]
"""Talks to one client until the event is set."""


@contextmanager
def raw_server(talk: Talk) -> Iterator[int]:
    """Give the port of a server that talks so to everyone."""
    closing = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            talk(client, closing)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def drip(data: bytes, again: bytes = b"x") -> Talk:
    """Read what is asked, send `data`, then `again` for ever, a piece every 50 ms."""

    def talk(client: socket.socket, closing: threading.Event) -> None:
        client.recv(65536)
        client.sendall(data)
        while not closing.wait(0.05):
            client.sendall(again)

    return talk


def answer(head: bytes, body: bytes = b"") -> Talk:
    """Read a request and send these bytes."""

    def talk(client: socket.socket, closing: threading.Event) -> None:
        client.recv(65536)
        client.sendall(head + body)

    return talk
