"""A forward proxy for tests of proxied traffic.

Owns CONNECT tunnels to the loopback interface, a log of their targets, and the demand for credentials. Must not look
into a tunnel, nor lead anywhere else. Specification: RFC 9110 §9.3.6 (CONNECT), §11.7 (Proxy-Authenticate); fault 49
of the project's reliability table.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import selectors
import socket
import threading
from http.client import HTTPMessage, parse_headers
from typing import TYPE_CHECKING, ClassVar

from credrotator.sandbox.listener import LOOPBACK, Listener

if TYPE_CHECKING:
    from typing import BinaryIO

BLOCK_BYTES = 65_536


class Proxy:
    """An HTTP proxy on the loopback interface. Set ``credentials`` to (user, password) to make it demand them."""

    name: ClassVar[str] = "proxy"

    def __init__(self, port: int = 0) -> None:
        self.credentials: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._targets: list[str] = []
        self._agents: list[str] = []
        self._listener = Listener(self.name, port, self._serve)

    @property
    def url(self) -> str:
        """Return the URL to put into ``HTTPS_PROXY``."""
        return f"http://{LOOPBACK}:{self._listener.port}"

    @property
    def targets(self) -> list[str]:
        """Return the "host:port" of each CONNECT that arrived, oldest first, refused ones too."""
        with self._lock:
            return list(self._targets)

    @property
    def agents(self) -> list[str]:
        """Return the User-Agent of each CONNECT that arrived, oldest first; empty where one named none."""
        with self._lock:
            return list(self._agents)

    def start(self) -> None:
        """Listen and serve; raises ``PortTaken`` where the port is in use."""
        self._listener.open()

    def stop(self) -> None:
        """Close all tunnels and stop; the port then refuses connections."""
        self._listener.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client.makefile("rb") as stream:
            target, headers = _connect_request(stream)
            with self._lock:
                self._targets.append(target)
                self._agents.append(headers.get("User-Agent", ""))
            if not self._admits(headers):
                client.sendall(_status(407, 'Proxy-Authenticate: Basic realm="sandbox"\r\n'))
            elif (port := _loopback_port(target)) is None:
                client.sendall(_status(403))
            else:
                with socket.create_connection((LOOPBACK, port)) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    _tunnel(client, server)

    def _admits(self, headers: HTTPMessage) -> bool:
        if self.credentials is None:
            return True
        wanted = b"Basic " + base64.b64encode(":".join(self.credentials).encode())
        return hmac.compare_digest(headers.get("Proxy-Authorization", "").encode(), wanted)


def _connect_request(stream: BinaryIO) -> tuple[str, HTTPMessage]:
    method, target, _ = stream.readline(BLOCK_BYTES).decode("latin-1").split()
    if method != "CONNECT":
        raise ValueError("only CONNECT is served")
    return target, parse_headers(stream)


def _loopback_port(target: str) -> int | None:
    host, _, port = target.rpartition(":")
    return int(port) if host in ("localhost", LOOPBACK) else None


def _status(status: int, fields: str = "") -> bytes:
    return f"HTTP/1.1 {status} Refused\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _tunnel(client: socket.socket, server: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, (client, server))
        selector.register(server, selectors.EVENT_READ, (server, client))
        while all(_carried(*key.data) for key, _ in selector.select()):
            pass


def _carried(source: socket.socket, target: socket.socket) -> bool:
    data = source.recv(BLOCK_BYTES)
    target.sendall(data)
    return bool(data)
