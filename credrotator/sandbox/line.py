"""The server's end of one connection while it answers: bytes out, at a chosen pace.

Owns timing and framing on an accepted socket. Must not know what is answered, nor read requests (see ``incoming``).
Specification: HTTP/1.1 message framing, RFC 9112 (§6 body length, §7.1 chunked coding).
"""

from __future__ import annotations

import selectors
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug import Response


class Hangup(OSError):
    """The connection is over: the peer left, the server stops, or a fault says so."""


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

    def greet(self, text: str) -> None:
        """Send a line as it is, in place of an answer, and end the connection.

        Raises:
            Hangup: Always.
        """
        self._connection.sendall(f"{text}\r\n".encode("latin-1", "replace"))
        raise Hangup("greeted on purpose")

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


def _framed(response: Response, *, chunked: bool) -> Iterator[bytes]:
    for block in response.iter_encoded():
        if block:
            yield b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
    if chunked:
        yield b"0\r\n\r\n"
