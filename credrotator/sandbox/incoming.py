"""The server's end of one connection while it listens: a request out of bytes.

Owns the reading of requests from an accepted socket. Must not answer (see ``line``). Specification: RFC 9112 (§2.2
message parsing, §6 body length, §9.3 persistence), PEP 3333 (the environ that Werkzeug reads).
"""

from __future__ import annotations

from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, NoReturn
from urllib.parse import unquote_to_bytes

from werkzeug import Request
from werkzeug.datastructures import Headers

from credrotator.sandbox.line import Hangup

if TYPE_CHECKING:
    import socket

MAX_LINE_BYTES = 65_536
MAX_BODY_BYTES = 1_048_576


class BadMessage(ValueError):
    """The bytes that arrived are no HTTP/1.1 request of an acceptable size."""


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


def persistent(request: Request) -> bool:
    """Tell whether the connection goes on after this request (RFC 9112 §9.3)."""
    wish = request.headers.get("Connection", "").lower()
    return wish == "keep-alive" or (wish != "close" and request.environ["SERVER_PROTOCOL"] != "HTTP/1.0")


def swallow(connection: socket.socket) -> NoReturn:
    """Read and say nothing until the connection is closed; raises ``Hangup`` then."""
    while connection.recv(MAX_LINE_BYTES):
        pass
    raise Hangup("nothing was said")
