"""A listening port on the loopback interface, and the threads that serve its connections.

Owns sockets and threads: it opens, refuses, drops and closes them, and leaves none behind. Must not speak HTTP or
TLS. Specification: none.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOPBACK = "127.0.0.1"


class PortTaken(Exception):
    """A port that the sandbox was told to use is in use."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(
            f"port {port} for the sandbox's {name} is in use; stop what listens there, choose another port, "
            "or give 0 to let the system choose"
        )
        self.port = port


class Listener:
    """Accepts connections on one port and gives each to ``serve`` in a thread of its own."""

    def __init__(self, name: str, port: int, serve: Callable[[socket.socket], None]) -> None:
        self._name = name
        self._serve = serve
        self._control = threading.Lock()  # one open, refuse or close at a time; held while threads are joined
        self._lock = threading.Lock()  # guards the connections; never held while waiting
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._acceptor: threading.Thread | None = None
        self._bound: socket.socket | None = None
        self._wake: socket.socket | None = None
        self.port = port

    def open(self) -> None:
        """Bind the port (0: one that the system chooses, then in ``port``) and accept from now on.

        Raises:
            PortTaken: Something else listens there.
        """
        with self._control:
            self._accept(self._bind())

    def set_refusing(self, *, refusing: bool) -> None:
        """Refuse connections and drop those that exist, or accept again; the port stays ours either way."""
        with self._control:
            if self._bound is None or refusing is (self._acceptor is None):
                return
            if refusing:
                self._stop_accepting()
                # A socket that is bound and does not listen makes the kernel refuse, and keeps the port from others.
                self._bind()
                self.drop_connections()
            else:
                self._accept(self._bound)

    def drop_connections(self) -> None:
        """Shut every connection down; the threads that serve them notice at once and end."""
        with self._lock:
            for connection in self._connections.values():
                _shut_down(connection)

    def close(self) -> None:
        """Stop accepting, drop all connections and wait for their threads."""
        with self._control:
            self._stop_accepting()
            self.drop_connections()
            with self._lock:
                threads = list(self._connections)
            for thread in threads:
                thread.join()

    def replace(self, connection: socket.socket) -> None:
        """Track ``connection``, which took over the file descriptor of the calling thread's own, as TLS does."""
        with self._lock:
            self._connections[threading.current_thread()] = connection
        if self._acceptor is None:
            _shut_down(connection)  # dropped while it was being wrapped

    def _bind(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Without it, connections of ours in TIME_WAIT would keep the port from us for a minute.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((LOOPBACK, self.port))
        except OSError as error:
            bound.close()
            raise self._explained(error) from error
        self.port = int(bound.getsockname()[1])
        self._bound = bound
        return bound

    def _accept(self, bound: socket.socket) -> None:
        try:
            bound.listen(512)
        except OSError as error:
            bound.close()
            raise self._explained(error) from error
        bound.settimeout(0)
        self._wake, woken = socket.socketpair()
        name = f"sandbox-{self._name}-accept"
        self._acceptor = threading.Thread(target=self._accept_until_woken, args=(bound, woken), name=name)
        self._acceptor.start()

    def _explained(self, error: OSError) -> Exception:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        return PortTaken(self._name, self.port) if taken else error

    def _stop_accepting(self) -> None:
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None and self._wake is not None:
            self._wake.close()
            acceptor.join()
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def _accept_until_woken(self, bound: socket.socket, woken: socket.socket) -> None:
        with woken, selectors.DefaultSelector() as selector:
            selector.register(bound, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while all(key.fileobj is not woken for key, _ in selector.select()):
                with contextlib.suppress(OSError):  # the peer may give up between the two calls
                    self._start(bound.accept()[0])

    def _start(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=self._run, args=(connection,), name=f"sandbox-{self._name}-connection")
        with self._lock:
            self._connections[thread] = connection
        thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        finally:
            with self._lock:
                last = self._connections.pop(threading.current_thread())
            last.close()


def _shut_down(connection: socket.socket) -> None:
    # The TLS class's own shutdown() would take its state away under a thread that is reading.
    with contextlib.suppress(OSError):  # already closed
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
