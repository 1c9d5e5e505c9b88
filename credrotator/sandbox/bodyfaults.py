"""Faults of the body: no JSON, endless, exploding, hostile.

Owns bodies that harm a client which trusts them. Must not touch how they travel (see ``wirefaults``). Specification:
faults 11, 12 and 46 of the project's reliability table; RFC 1952 (gzip).
"""

from __future__ import annotations

import gzip
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from werkzeug import Request, Response

from credrotator.sandbox.answerfaults import Answer, CutShort, ServiceError
from credrotator.sandbox.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credrotator.sandbox.faults import FaultyServer

HOSTILE_TEXT = "line one\r\nlevel=INFO msg=forged\x1b[31m\x1b]0;title\x07\u202e{{7*7}}%s<script>\x00"
BLOCK_BYTES = 65_536


@dataclass(frozen=True)
class Huge(Fault):
    """Stream a body of that size, a JSON string that does not end; with ``declared`` its length is announced."""

    kind: ClassVar[str] = "answer"
    size_bytes: int = 1 << 30
    declared: bool = False

    def answer(self, _request: Request, _server: FaultyServer, /) -> Response | None:
        """Return the stream."""
        headers = {"Content-Length": str(self.size_bytes)} if self.declared else {}
        return Response(self._blocks(), 200, headers, content_type="application/json")

    def _blocks(self) -> Iterator[bytes]:
        head = b'{"access_token": "'
        full, rest = divmod(self.size_bytes - len(head), BLOCK_BYTES)
        return itertools.chain([head], itertools.repeat(b"a" * BLOCK_BYTES, full), [b"a" * rest])


@dataclass(frozen=True)
class GzipBomb(Fault):
    """Answer with a small body that gzip unpacks to ``size_bytes`` of JSON white space."""

    kind: ClassVar[str] = "answer"
    size_bytes: int = 1 << 30

    def answer(self, _request: Request, _server: FaultyServer, /) -> Response | None:
        """Return the bomb."""
        # RFC 1952 §2.2: a file may have many members, so one packed mebibyte is enough, however big the whole.
        member = gzip.compress(b" " * (1 << 20))
        body = member * (self.size_bytes >> 20)
        return Response(body, 200, {"Content-Encoding": "gzip"}, content_type="application/json")


def garbage() -> dict[str, Fault]:
    """Return the ways in which a 200 can be no answer at all, by name."""
    return {
        "html": Answer(body="<!doctype html><title>Sign in</title>", content_type="text/html"),
        "page that is XML": Answer(body="<html><body><p>Sign in</p></body></html>", content_type="text/html"),
        "array": Answer(body="[1, 2, 3]"),
        "deep nesting": Answer(body="[" * 100_000),
        "deep nesting of objects": Answer(body='{"a":' * 50_000),
        "deep nesting of elements": Answer(body="<a>" * 50_000 + "</a>" * 50_000, content_type="text/xml"),
        "empty": Answer(body=""),
        "null": Answer(body="null"),
        "not UTF-8": Answer(body=b'{"access_token": "\xff\xfe"}'),
        "cut": CutShort(),
    }


def hostile(code: str, size_bytes: int = 1_000_000) -> ServiceError:
    """Return a refusal whose description forges log lines, moves the cursor, and is long."""
    return ServiceError(code, HOSTILE_TEXT + "A" * (size_bytes - len(HOSTILE_TEXT)))
