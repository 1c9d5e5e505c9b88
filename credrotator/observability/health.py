"""Serves /metrics, /healthz and /readyz, and stays answerable whoever connects.

Owns the bounds: so many connections at a time, each with one deadline for all of it. Beyond that the longest waiting
connection that has asked nothing is dropped for the new one: a probe asks as soon as it is connected, and what holds a
connection open without asking must not have the kubelet restart the daemon. Source: reliability.md 69.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

HealthCheck = Callable[[], str | None]
"""Returns what is wrong, or None."""


MOST_CONNECTIONS = 64
"""Connections, and with them threads, at a time."""
DEADLINE_S = 10.0
"""Time for a connection from the first byte to the last, however slowly they drip."""


class Exposed(Protocol):
    """What can be scraped.

    Attributes:
        content_type: Of the exposition.
    """

    content_type: str

    def exposition(self) -> bytes:
        """Write all metrics in Prometheus' text format."""


class HealthServer:
    """Serves /metrics, /healthz and /readyz on one address.

    Args:
        host: Address to listen on; empty for all.
        port: TCP port; 0 lets the system choose.
        metrics: Served as /metrics.
        checks: By path, tells what is wrong.
    """

    def __init__(self, host: str, port: int, metrics: Exposed, checks: Mapping[str, HealthCheck]) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "checks": dict(checks)})
        # IPv4 by default: "::" would need IPv6 on the node, and clusters without it are common.
        self._server = (_Server6 if ":" in host else _Server)((host, port), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve from now on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Fifteen hundred that connect at once must not have a probe's SYN dropped, which is sent again after a second only.
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[socket.socket, float] = OrderedDict()
        self._answering: dict[socket.socket, float] = {}
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # NOTE: HTTPServer's own looks the host's name up in DNS, which may hang, and nobody asks for it here.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Answer in a thread; the longest waiting one makes room where there are too many."""
        with self._lock:
            surplus = len(self._waiting) + len(self._answering) + 1 - MOST_CONNECTIONS
            # Those that have asked nothing first, and of these the oldest: whoever only holds connections open loses
            # them.
            dropped = [*self._waiting, *self._answering][: max(0, surplus)]
            for connection in dropped:
                self._waiting.pop(connection, None)
                self._answering.pop(connection, None)
            self._waiting[request] = time.monotonic()
        for connection in dropped:
            _hang_up(connection)
        super().process_request(request, client_address)

    def asked(self, request: socket.socket) -> None:
        """Take note that a connection has sent its request: it is not dropped for a new one any more."""
        with self._lock:
            if (since_s := self._waiting.pop(request, None)) is not None:
                # With the time at which it connected: the deadline is one for the whole connection, or a byte now and
                # then would extend it.
                self._answering[request] = since_s

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Close, and count it no more."""
        with self._lock:
            self._waiting.pop(request, None)
            self._answering.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End what has had its time; called about twice a second."""
        over_s = time.monotonic() - DEADLINE_S
        with self._lock:
            late = [each for each, since_s in (*self._waiting.items(), *self._answering.items()) if since_s < over_s]
        for connection in late:
            _hang_up(connection)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Keep a prober that hangs up out of the log's traces."""
        log.debug("answering %s failed: %s", client_address, sys.exception())


class _Server6(_Server):
    address_family = socket.AF_INET6


def _hang_up(connection: socket.socket) -> None:
    """End a connection that a thread may be reading; the thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    metrics: Exposed
    checks: Mapping[str, HealthCheck]
    server: _Server
    timeout = DEADLINE_S

    def do_GET(self) -> None:
        self.server.asked(self.connection)
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, self.metrics.exposition(), self.metrics.content_type)
        elif check := self.checks.get(path):
            # Asked for each request, never kept: a probe that is answered from memory would call a dead daemon alive.
            wrong = check()
            self._answer(503 if wrong else 200, (wrong or "ok").encode() + b"\n", "text/plain; charset=utf-8")
        else:
            self._answer(404, b"/metrics, /healthz, /readyz\n", "text/plain; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: probes come every few seconds."""
