"""Reading the head of an HTTP answer, in a fifth of the standard library's time.

``http.client`` reads headers by the parser of e-mails, which takes 0.1 ms for each answer: a tenth of what a rotation
costs. Headers as servers write them are read here line by line; where a line is anything else, all of them go to that
parser. Must not read bodies. Source: RFC 9112 §4..§6, and ``http.client`` for what it leaves open.
"""

from __future__ import annotations

import io
import re
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage, HTTPResponse, LineTooLong, UnknownProtocol, parse_headers
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

# These two are http.client's own limits (_MAXLINE, _MAXHEADERS): nothing is accepted that was not before.
_LONGEST_LINE = 65536
_MOST_HEADERS = 100
_PLAIN = re.compile(rb"([!#-9;-~]+):[ \t]*([ -~]*)\r\n")
_ENDS = (b"\r\n", b"\n", b"")


class PlainResponse(HTTPResponse):
    """An answer whose headers are read in the short way where that does."""

    def begin(self) -> None:
        """See HTTPResponse."""
        # NOTE: typeshed has no headers that are None; before this they are.
        if getattr(self, "headers", None) is not None:
            return
        version, status, reason = self._read_status()  # type: ignore[attr-defined]
        # An informational answer comes before the real one, with headers that nobody needs (RFC 9110 §15.2).
        while status == HTTPStatus.CONTINUE:
            _lines(self.fp)
            version, status, reason = self._read_status()  # type: ignore[attr-defined]
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = _version(version)
        self.headers = self.msg = read_headers(self.fp)
        self._frame(status)

    def _frame(self, status: int) -> None:
        """Tell where the body ends."""
        coding = self.headers.get("transfer-encoding", "")
        self.chunked = coding.lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]
        self.length = None if self.chunked else _length(self.headers.get("content-length", ""))
        # These have no body whatever their headers say (RFC 9112 §6.3, rule 1).
        if status in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED} or status < HTTPStatus.OK:
            self.length = 0
        if self._method == "HEAD":  # type: ignore[attr-defined]
            self.length = 0
        # Neither length nor chunks: the body ends with the connection, which cannot be used again.
        if not self.chunked and self.length is None:
            self.will_close = True


def read_headers(stream: BinaryIO) -> HTTPMessage:
    """Read up to the empty line after the headers.

    Raises:
        HTTPException: A line is longer than 64 KiB, or there are more than a hundred.
    """
    lines = _lines(stream)
    message = HTTPMessage()
    for line in lines[:-1]:
        plain = _PLAIN.fullmatch(line)
        if plain is None:
            return parse_headers(io.BytesIO(b"".join(lines)))
        name, value = plain.groups()
        message.set_raw(name.decode("ascii"), value.decode("ascii"))
    message.set_payload("")
    return message


def _lines(stream: BinaryIO) -> list[bytes]:
    """Read the lines, the one that ends them included."""
    lines: list[bytes] = []
    while True:
        line = stream.readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise LineTooLong("header line")
        lines.append(line)
        if len(lines) > _MOST_HEADERS:
            raise HTTPException(f"got more than {_MOST_HEADERS} headers")
        if line in _ENDS:
            return lines


def _version(shown: str) -> int:
    if shown in {"HTTP/1.0", "HTTP/0.9"}:
        return 10
    if shown.startswith("HTTP/1."):
        return 11
    raise UnknownProtocol(shown)


def _length(shown: str) -> int | None:
    try:
        length = int(shown)
    except ValueError:
        return None
    return length if length >= 0 else None
