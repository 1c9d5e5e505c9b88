"""Faults of the answer: another status, another body, another place, changed members.

Owns what the answer says wrongly. Must not touch how it travels (see ``wirefaults``), nor make bodies that are harmful
as such (see ``bodyfaults``). Specification: faults 3, 5, 7..10 and 13..23 of the project's reliability table; RFC 9110
§10.2.3 (Retry-After), §15.4 (redirects).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final
from xml.sax.saxutils import escape

from werkzeug import Request, Response
from werkzeug.http import http_date, parse_date

from credrotator.sandbox.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credrotator.sandbox.faults import FaultyServer


class _Missing:
    """Stands for a member that is left out; shows itself by name, so that ids of tests are stable."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@dataclass(frozen=True)
class Answer(Fault):
    """Answer with this status, body and headers, whatever was asked.

    ``retry_after`` is sent as it is when it is a number (of seconds) or a text, and as an HTTP-date when it is an
    aware datetime.
    """

    kind: ClassVar[str] = "answer"
    status: int = 200
    body: str | bytes = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | str | datetime | None = None

    def answer(self, _request: Request, _server: FaultyServer, /) -> Response | None:
        """Return the answer."""
        response = Response(self.body, self.status, dict(self.headers), content_type=self.content_type)
        if self.retry_after is not None:
            response.headers["Retry-After"] = _retry_after(self.retry_after)
        return response


@dataclass(frozen=True)
class ServiceError(Fault):
    """Refuse in the service's own format: an OAuth error, an AWS code, an AADSTS number.

    ``status`` overrides the code's usual status; ``retry_after`` is a number of seconds or any text.
    """

    kind: ClassVar[str] = "answer"
    code: str
    description: str | None = None
    status: int | None = None
    retry_after: int | str | None = None

    def answer(self, _request: Request, server: FaultyServer, /) -> Response | None:
        """Return the refusal."""
        response = server.refusal(self.code, self.description)
        if self.status is not None:
            response.status_code = self.status
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        return response


@dataclass(frozen=True)
class Redirect(Fault):
    """Redirect to the same path: ``to`` is "same-origin", "other-origin", "http" (in the clear), or a whole URL.

    The other origin is this very server under 127.0.0.1, and the clear is this very port, so that the log shows who
    followed. What was redirected is answered (or refused, in the clear) and not redirected once more.
    """

    kind: ClassVar[str] = "answer"
    to: str = "same-origin"
    status: int = 302

    def answer(self, request: Request, server: FaultyServer, /) -> Response | None:
        """Return the redirect."""
        if "redirected" in request.args:
            return None
        bases = {
            "same-origin": server.url,
            "other-origin": f"https://127.0.0.1:{server.port}",
            "http": f"http://localhost:{server.port}",
        }
        target = f"{bases[self.to]}{request.path}?redirected=1" if self.to in bases else self.to
        return Response("", self.status, {"Location": target})


@dataclass(frozen=True)
class Override(Fault):
    """Replace members of the answer: top-level ones of a JSON object, or XML elements by their name.

    ``MISSING`` leaves a member out. Numbers such as NaN and 1e12 go out as Python writes them.
    """

    kind: ClassVar[str] = "override"
    members: Mapping[str, Any]

    def change(self, response: Response) -> Response:
        """Return the answer with these members."""
        text = response.get_data(as_text=True)
        edited = _xml_with(text, self.members) if response.mimetype == "text/xml" else _json_with(text, self.members)
        return _with_body(response, edited)


@dataclass(frozen=True)
class CutShort(Fault):
    """Leave out the end of the body; the length in the head agrees, so only the content is broken."""

    kind: ClassVar[str] = "cut"
    keep: float = 0.5

    def change(self, response: Response) -> Response:
        """Return the answer with the first part of its body."""
        body = response.get_data()
        return _with_body(response, body[: int(len(body) * self.keep)])


@dataclass(frozen=True)
class SkewedDate(Fault):
    """Move the Date header by this much; with an ``age``, the answer says that it comes from a cache."""

    kind: ClassVar[str] = "date"
    by: timedelta
    age: timedelta | None = None

    def change(self, response: Response) -> Response:
        """Return the answer with another Date."""
        date = parse_date(response.headers["Date"])
        if date is not None:
            response.headers["Date"] = http_date(date + self.by)
        if self.age is not None:
            response.headers["Age"] = str(int(self.age.total_seconds()))
        return response


def _retry_after(value: int | str | datetime) -> str:
    return http_date(value) if isinstance(value, datetime) else str(value)


def _with_body(response: Response, body: str | bytes) -> Response:
    response.set_data(body)
    return response


def _json_with(text: str, members: Mapping[str, Any]) -> str:
    document = {**json.loads(text), **members}
    return json.dumps({name: value for name, value in document.items() if value is not MISSING})


def _xml_with(text: str, members: Mapping[str, Any]) -> str:
    for name, value in members.items():
        fresh = "" if value is MISSING else f"<{name}>{escape(str(value))}</{name}>"
        text = fresh.join(re.split(f"<{name}>.*?</{name}>", text, flags=re.DOTALL))
    return text
