"""The server's end of one connection: reading a request, sending an answer, at a chosen pace.

Owns bytes and timing on an accepted socket. Must not know what is asked or answered. Specification: HTTP/1.1 message
framing, RFC 9112 (§6 body length, §7.1 chunked coding, §9.3 persistence).
"""

from __future__ import annotations

import selectors
import socket
import struct
from dataclasses import dataclass
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, NoReturn
from urllib.parse import unquote_to_bytes

from werkzeug import Request, Response
from werkzeug.datastructures import Headers

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE_BYTES = 65_536
MAX_BODY_BYTES = 1_048_576


class Hangup(OSError):
    """The connection is over: the peer left, the server stops, or a fault says so."""


class BadMessage(ValueError):
    """The bytes that arrived are no HTTP/1.1 request of an acceptable size."""


@dataclass(frozen=True)
class Pace:
    """How slowly to send: one byte each ``interval_s`` seconds, in the head, the body, or both."""

    interval_s: float
    head: bool
    body: bool


class Line:
    """Sends one answer over a socket whose request has been read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pace: Pace | None = None
        self.body_limit_bytes: int | None = None
        self.reset_at_limit = False

    def wait(self, seconds: float) -> None:
        """Wait that long.

        Raises:
            Hangup: The peer or the server closed the connection meanwhile. A client that waits for its answer sends
                nothing, so a socket that becomes readable means its end.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            if selector.select(seconds):
                raise Hangup("the connection was closed during a wait")

    def reset(self) -> None:
        """End the connection with a TCP RST instead of a FIN.

        Raises:
            Hangup: Always; whoever holds the connection then closes it.
        """
        # A linger time of zero makes close() discard unsent data and send RST (POSIX socket option SO_LINGER).
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup("reset on purpose")

    def hang(self) -> None:
        """Send nothing more until somebody closes the connection; raises ``Hangup`` then."""
        while True:
            self.wait(60.0)

    def send(self, response: Response, *, head_only: bool = False) -> None:
        """Send head and body; chunked when the length of the body is not known."""
        chunked = not response.is_sequence and "Content-Length" not in response.headers
        self._send_head(response, chunked=chunked)
        if head_only:
            return
        sent = 0
        for block in _framed(response, chunked=chunked):
            sent = self._send_block(block, sent)

    def _send_head(self, response: Response, *, chunked: bool) -> None:
        if chunked:
            response.headers["Transfer-Encoding"] = "chunked"
        elif response.is_sequence:
            response.headers.setdefault("Content-Length", str(len(response.get_data())))
        fields = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
        head = f"HTTP/1.1 {response.status}\r\n{fields}\r\n".encode("latin-1", "replace")
        self._send(head, slowly=self.pace is not None and self.pace.head)

    def _send_block(self, block: bytes, sent: int) -> int:
        limit = self.body_limit_bytes
        allowed = block if limit is None else block[: limit - sent]
        self._send(allowed, slowly=self.pace is not None and self.pace.body)
        if limit is not None and len(allowed) < len(block):
            self.reset() if self.reset_at_limit else self.hang()
        return sent + len(allowed)

    def _send(self, data: bytes, *, slowly: bool) -> None:
        if not slowly or self.pace is None:
            self._connection.sendall(data)
            return
        for position in range(len(data)):
            self._connection.sendall(data[position : position + 1])
            self.wait(self.pace.interval_s)


def persistent(request: Request) -> bool:
    """Tell whether the connection goes on after this request (RFC 9112 §9.3)."""
    wish = request.headers.get("Connection", "").lower()
    return wish == "keep-alive" or (wish != "close" and request.environ["SERVER_PROTOCOL"] != "HTTP/1.0")


def swallow(connection: socket.socket) -> NoReturn:
    """Read and say nothing until the connection is closed; raises ``Hangup`` then."""
    while connection.recv(MAX_LINE_BYTES):
        pass
    raise Hangup("nothing was said")


def _framed(response: Response, *, chunked: bool) -> Iterator[bytes]:
    for block in response.iter_encoded():
        if block:
            yield b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
    if chunked:
        yield b"0\r\n\r\n"


def read_request(stream: BinaryIO, scheme: str, authority: str) -> Request | None:
    """Read one request, or return None at the end of the connection.

    Args:
        stream: The socket as a buffered file; its position is after the request on return.
        scheme: "https" or "http".
        authority: "host:port" for a client that sends no Host.

    Raises:
        BadMessage: It is no HTTP/1.1 request, has no Content-Length where it has a body, or is too big.
    """
    start = stream.readline(MAX_LINE_BYTES + 1)
    if not start.strip():
        return None
    try:
        method, target, version = start.decode("latin-1").split()
        message = parse_headers(stream)
        size_bytes = int(message.get("Content-Length", "0"))
    except (ValueError, HTTPException) as error:
        raise BadMessage("not an HTTP/1.1 request") from error
    if "Transfer-Encoding" in message or not 0 <= size_bytes <= MAX_BODY_BYTES:
        raise BadMessage("the body needs a Content-Length of at most 1 MiB")
    body = stream.read(size_bytes)
    if len(body) < size_bytes:
        return None  # the peer left in the middle
    return Request(_environ((method, target, version), scheme, authority, Headers(message.items()), body))


def _environ(
    start: tuple[str, str, str], scheme: str, authority: str, headers: Headers, body: bytes
) -> dict[str, object]:
    method, target, version = start
    host, _, port = headers.get("Host", authority).partition(":")
    path, _, query = target.partition("?")
    environ: dict[str, object] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _decoded(path),
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "SERVER_NAME": host,
        "SERVER_PORT": port or "443",
        "SERVER_PROTOCOL": version,
        "wsgi.url_scheme": scheme,
        "wsgi.input": BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
    }
    for name, value in headers:
        key = name.upper().replace("-", "_")
        environ["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return environ


def _decoded(path: str) -> str:
    # PEP 3333 wants PATH_INFO percent-decoded, its bytes presented as latin-1.
    return unquote_to_bytes(path).decode("latin-1")
