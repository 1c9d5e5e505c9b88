"""A loopback port that speaks HTTP, perhaps over TLS, and can be closed whatever its connections are doing."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl


class HttpListener(ThreadingHTTPServer):
    """The socket, and the connections that came out of it, a thread for each."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, name="api-server")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening and cut all connections."""
        self.shutdown()
        with self._guard:
            still_open = list(self._open)
        for connection in still_open:
            cut(connection)
        self.server_close()
        self._thread.join()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Do the handshake in the connection's own thread: a client that does not speak must not stop the rest."""
        try:
            connection = self._tls.wrap_socket(request, server_side=True) if self._tls else request
        except OSError:
            request.close()
            return
        with self._guard:
            self._open.add(connection)
        try:
            super().process_request_thread(connection, client_address)
        finally:
            with self._guard:
                self._open.discard(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


def cut(connection: socket.socket) -> None:
    """End a connection while another thread may be reading from it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
