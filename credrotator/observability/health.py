"""Health and metrics over HTTP, as the kubelet and Prometheus ask for them.

Owns the server and its paths. Must not know what is measured, nor what makes a process healthy.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

HealthCheck = Callable[[], str | None]
"""Returns what is wrong, or None."""


class Exposed(Protocol):
    """What can be scraped.

    Attributes:
        content_type: Of the exposition.
    """

    content_type: str

    def exposition(self) -> bytes:
        """Write all metrics in Prometheus' text format."""


class HealthServer:
    """Serves /metrics, /healthz and /readyz on one address."""

    def __init__(self, host: str, port: int, metrics: Exposed, checks: Mapping[str, HealthCheck]) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "checks": dict(checks)})
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

    def server_bind(self) -> None:
        # NOTE: HTTPServer's own looks the host's name up in DNS, which may hang, and nobody asks for it here.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Keep a prober that hangs up out of the log's traces."""
        log.debug("answering %s failed: %s", client_address, sys.exception())


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    metrics: Exposed
    checks: Mapping[str, HealthCheck]
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, self.metrics.exposition(), self.metrics.content_type)
        elif check := self.checks.get(path):
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
