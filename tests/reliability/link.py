"""A network link that can be cut: what was sent is held back then, and arrives late when it is healed.

Owns a loopback port that leads to another one. Cut as a partition cuts: nobody is told, connections stay open and new
ones seem to be made, and nothing comes through in either direction.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

BLOCK_BYTES = 65_536


class Link:
    """A port in front of ``port``; use it as a context manager."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._whole = threading.Event()
        self._whole.set()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="link", daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._whole.set()
        _end(self._listener)
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            _end(connection)

    def cut(self) -> None:
        """Let nothing through any more."""
        self._whole.clear()

    def heal(self) -> None:
        """Let everything through again, what was held back first."""
        self._whole.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(one, other), name="link", daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK_BYTES):
                self._whole.wait()
                if self._closed:
                    break
                target.sendall(data)
            self._whole.wait()
        _end(target)
        _end(source)


def _end(connection: socket.socket) -> None:
    """End a connection while another thread may be waiting on it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
