"""Faults that give a secret away: refusals that repeat what the request proved itself by.

Owns the ways in which servers write what they were sent. Must not decide who is refused. Specification: fault 72 of the
project's reliability table; RFC 7617 (Basic), RFC 8259 §7 (escapes of JSON), HTML's character references.
"""

from __future__ import annotations

import base64
import html
import json
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, quote_plus, unquote_plus

from credrotator.sandbox.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug import Request, Response

    from credrotator.sandbox.faults import FaultyServer


@dataclass(frozen=True)
class Echo(Fault):
    """Refuse, and repeat in the description what the request proved itself by, written in one of many ways.

    ``form`` is one of ``ECHOES``; ``lead`` stands in front of it, and ``keep`` is how many characters of it are left.
    """

    kind: ClassVar[str] = "answer"
    form: str = "plain"
    code: str = "invalid_client"
    status: int | None = None
    lead: str = "this is what you sent: "
    keep: int | None = None

    def answer(self, request: Request, server: FaultyServer, /) -> Response | None:
        """Return the refusal."""
        response = server.refusal(self.code, self.lead + ECHOES[self.form](proof(request))[: self.keep])
        if self.status is not None:
            response.status_code = self.status
        return response


def proof(request: Request) -> Proof:
    """Return what a token request proves itself by: a client's id and secret, or an assertion or token."""
    for name in ("client_secret", "client_assertion", "assertion", "subject_token", "WebIdentityToken"):
        if name in request.form:
            return Proof(request.form.get("client_id", ""), request.form[name])
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return Proof("", credentials)
    client_id, _, secret = base64.b64decode(credentials).decode().partition(":")
    return Proof(unquote_plus(client_id), unquote_plus(secret))


@dataclass(frozen=True)
class Proof:
    """Who a client says it is, and what proves it."""

    client_id: str
    secret: str = field(repr=False)

    def pair(self, write: Callable[[str], str] = str) -> str:
        """Return the credentials of Basic (RFC 7617 §2)."""
        return base64.b64encode(f"{write(self.client_id)}:{write(self.secret)}".encode()).decode()


def _units(text: str) -> tuple[int, ...]:
    """Return a text in the units of UTF-16, as JSON's escapes have them."""
    encoded = text.encode("utf-16-be")
    return struct.unpack(f">{len(encoded) // 2}H", encoded)


ECHOES: Mapping[str, Callable[[Proof], str]] = {
    "plain": lambda sent: sent.secret,
    "basic": lambda sent: f"Authorization: Basic {sent.pair(quote_plus)}",
    "plain basic": lambda sent: f"Authorization: Basic {sent.pair()}",
    "form": lambda sent: f"client_secret={quote_plus(sent.secret)}&grant_type=client_credentials",
    "form, in small letters": lambda sent: re.sub("%..", lambda match: match[0].lower(), quote(sent.secret, safe="")),
    "form, twice": lambda sent: quote(quote(sent.secret, safe=""), safe=""),
    "json": lambda sent: json.dumps({"client_secret": sent.secret}),
    "json in json": lambda sent: json.dumps(json.dumps({"client_secret": sent.secret})),
    "json, in escapes": lambda sent: "".join(f"\\u{unit:04x}" for unit in _units(sent.secret)),
    "json, slashes escaped": lambda sent: json.dumps(sent.secret).replace("/", "\\/"),
    "html": lambda sent: f"<td>{html.escape(sent.secret)}</td>",
    "html, in numbers": lambda sent: "".join(f"&#{ord(char)};" for char in sent.secret),
    "html, in hexadecimal": lambda sent: "".join(f"&#x{ord(char):X};" for char in sent.secret),
    "json in html": lambda sent: html.escape(json.dumps({"client_secret": sent.secret})),
    "basic in a form": lambda sent: quote_plus(f"Basic {sent.pair(quote_plus)}"),
    "base64": lambda sent: base64.b64encode(sent.secret.encode()).decode(),
    "base64 for URLs": lambda sent: base64.urlsafe_b64encode(f"a={sent.secret}".encode()).decode().rstrip("="),
    "bytes of Python": lambda sent: repr(sent.secret.encode()),
    "its first half": lambda sent: sent.secret[: len(sent.secret) // 2],
    "its second half": lambda sent: sent.secret[len(sent.secret) // 2 :],
    "its ends": lambda sent: f"{sent.secret[:5]}...{sent.secret[-5:]}",
}
"""Ways in which servers write what they were sent: into JSON, a page, a log; whole or in part."""
