"""Heads of HTTP answers are read as the standard library reads them, only sooner."""

from __future__ import annotations

import io
from http.client import HTTPException, HTTPResponse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credrotator.core.http_response import PlainResponse

LINES = (
    b"Date: Fri, 27 Nov 2026 10:00:00 GMT\r\n",
    b"Content-Length: 12\r\n",
    b"content-length: -1\r\n",
    b"Content-Length: twelve\r\n",
    b"Content-Length:\r\n",
    b"Transfer-Encoding: Chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"X-Folded: one\r\n two\r\n",
    b"X-Latin: caf\xe9\r\n",
    b"X-Tab:\tone\ttwo \r\n",
    b"X-Bare: newline\n",
    b"X-Return: a\rb\r\n",
    b"X Space: in a name\r\n",
    b"no colon\r\n",
    b": no name\r\n",
    b"From nobody\r\n",
    b"Content-Type: multipart/mixed\r\n",
    b"X-Zero: a\0b\r\n",
)
STATUSES = (
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 ",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 100 Continue\r\nX-Skipped: 1\r\n\r\nHTTP/1.1 503 Busy",
    b"HTTP/1.1 103 Early",
    b"HTTP/2 200",
    b"HTTP/1.1 2000 OK",
    b"nonsense",
)


class _Socket:
    def __init__(self, sent: bytes) -> None:
        self._sent = sent

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._sent)


def read(kind: type[HTTPResponse], sent: bytes, method: str) -> Any:
    """Return all that is known of an answer, or how it failed."""
    response = kind(_Socket(sent), method=method)  # type: ignore[arg-type]  # as much of a socket as is asked for
    try:
        response.begin()
    except HTTPException as error:
        return type(error), str(error)
    framing = (response.chunked, response.length, response.will_close)
    head = (response.version, response.status, response.reason, response.headers.items())
    try:
        body = response.read() if not response.chunked else b""
    except HTTPException as error:
        body = repr(error).encode()
    return head, framing, response.headers.get_payload(), body


@given(
    st.sampled_from(STATUSES),
    st.lists(st.sampled_from(LINES), max_size=6),
    st.sampled_from([b"\r\n", b"\n", b""]),
    st.sampled_from(["GET", "HEAD"]),
)
def test_heads_are_read_as_ever(status: bytes, lines: list[bytes], end: bytes, method: str) -> None:
    """Whatever a server writes, status, headers and the end of the body are the standard library's."""
    sent = status + b"\r\n" + b"".join(lines) + end + b"0123456789abcdef"
    assert read(PlainResponse, sent, method) == read(HTTPResponse, sent, method)


@pytest.mark.parametrize("header", [b"X: " + b"a" * 70_000 + b"\r\n", b"X: 1\r\n" * 101])
def test_heads_have_limits(header: bytes) -> None:
    """A head that does not end is refused, as the standard library does."""
    sent = b"HTTP/1.1 200 OK\r\n" + header + b"\r\n"
    refused = read(PlainResponse, sent, "GET")
    assert issubclass(refused[0], HTTPException)
    assert refused == read(HTTPResponse, sent, "GET")
