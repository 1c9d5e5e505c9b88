"""Row 60: a firewall drops what is idle, and tells nobody; connections that were idle for so long are not used."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from credrotator.core.keep_alive import LONGEST_IDLE_S
from credrotator.exchange.http import connections
from credrotator.exchange.http.endpoint import ISSUER
from credrotator.exchange.http.transport import Transport
from credrotator.kube.client import pool
from credrotator.kube.client.api import KubeApi
from credrotator.kube.client.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credrotator.core.sensitive import Sensitive


class Counting(ThreadingHTTPServer):
    """A server that counts connections, and tells which of them keep alive."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = 0

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Count."""
        self.connections += 1
        return super().get_request()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Nobody:
    """Credentials of nobody."""

    def read(self, *, afresh: bool) -> Sensitive | None:
        """See HeaderSource."""
        return None


@pytest.fixture
def server() -> Iterator[Counting]:
    """Run the server for the length of a test."""
    with Counting() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@contextmanager
def asking(kind: str, url: str) -> Iterator[Callable[[], object]]:
    """Return what sends a request, as we send it to issuers and vendors, or to the API server."""
    if kind == "exchange":
        with Transport(ISSUER, environment={}) as transport:
            yield lambda: transport.get(url)
        return
    with KubeApi(Connection(url, Nobody())) as api:
        yield lambda: api.get("/version")


@pytest.mark.parametrize("kind", ["exchange", "cluster"])
def test_fault_60_what_was_idle_for_long_is_not_used(
    kind: str, server: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is used again within its time, and one that a firewall may have dropped meanwhile is not."""
    now_s = [1000.0]
    for module in (connections, pool):
        monkeypatch.setattr(module, "suspend_aware", lambda: now_s[0])
    with asking(kind, server.url) as ask:
        counts = []
        for passes_s in (0.0, LONGEST_IDLE_S - 1, LONGEST_IDLE_S - 1, LONGEST_IDLE_S, 0.0, 3600.0):
            now_s[0] += passes_s
            ask()
            counts.append(server.connections)
    assert counts == [1, 1, 1, 2, 2, 3]


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the system does not let one say when")
@pytest.mark.parametrize("kind", ["exchange", "cluster"])
def test_fault_60_connections_keep_alive(kind: str, server: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep-alive begins before a firewall's usual minute, on each connection, watches of the API server included."""
    made: list[socket.socket] = []
    connect = socket.socket.connect

    def note(connection: socket.socket, address: object) -> None:
        made.append(connection)
        connect(connection, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", note)
    with asking(kind, server.url) as ask:
        ask()
        (connection,) = made
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < LONGEST_IDLE_S
