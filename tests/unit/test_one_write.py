"""A request leaves in one piece, and nothing of one that failed goes along with the next."""

from __future__ import annotations

from typing import Any

import pytest
from urllib3.connection import HTTPConnection

from credrotator.core.one_write import OneWrite


class Wire:
    """A socket that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def settimeout(self, _timeout_s: float | None) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.writes.append(bytes(data))


def connected(kind: type[HTTPConnection]) -> tuple[HTTPConnection, Wire]:
    """Return a connection that writes to a list."""
    connection, wire = kind("api.example"), Wire()
    connection.sock = wire
    return connection, wire


@pytest.mark.parametrize(
    ("method", "body"),
    [("GET", None), ("POST", b"x" * 100_000), ("POST", "a=b"), ("PUT", b""), ("POST", [b"one", b"two"])],
)
def test_at_once(method: str, body: Any) -> None:
    """Head and body are one write, of the bytes that would have been several."""
    request = {"body": body, "headers": {"X-Header": "value"}}
    plain, several = connected(HTTPConnection)
    plain.request(method, "/path", **request)
    connection, wire = connected(OneWrite)
    connection.request(method, "/path", **request)
    assert wire.writes == [b"".join(several.writes)]


def test_one_that_failed_leaves_nothing() -> None:
    """What was built of it before it failed is dropped."""
    connection, wire = connected(OneWrite)

    def broken() -> Any:
        yield b"begun"
        raise OSError("the body cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        connection.request("POST", "/first", body=broken(), headers={"Content-Length": "10"})
    assert wire.writes == []
    connection.send(b"next")
    assert wire.writes == [b"next"]


def test_what_is_no_request_goes_straight_out() -> None:
    """Such as the CONNECT for a proxy."""
    connection, wire = connected(OneWrite)
    connection.send(b"CONNECT")
    assert wire.writes == [b"CONNECT"]
