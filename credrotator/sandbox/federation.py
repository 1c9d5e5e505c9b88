"""What the sandbox's model vendors have in common: a token endpoint that takes an issuer's token, and an API.

Owns the reading of JSON requests, the tokens that were given and their end, and how a subject token is judged step by
step. Must not know which fields a vendor asks for. Specification: RFC 8693 §2, RFC 7523 §3, RFC 6750 §2.1.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from credrotator.sandbox.answers import Refused
from credrotator.sandbox.googleaccounts import Grant
from credrotator.sandbox.service import Place, Scheme, Service
from credrotator.sandbox.trust import (
    BadSignature,
    Malformed,
    Token,
    TrustedIssuers,
    UnknownIssuer,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from werkzeug import Request

KEPT_GRANTS = 20_000  # the oldest go first, so that a sandbox may run for days
TOLERANCE = timedelta(minutes=1)


@dataclass
class Trusted:
    """Whose subject tokens are taken.

    ``issuer`` and ``audience`` are compared exactly; ``subject`` None takes any.
    """

    issuer: str
    audience: str
    subject: str | None = None
    needed: tuple[str, ...] = ("iss", "aud", "sub", "exp", "iat")
    longest_life: timedelta = timedelta(hours=24)
    disabled: bool = False

    def judge(self, compact: str, issuers: TrustedIssuers, now: datetime) -> Token:
        """Return a token that is good; ``Refused`` with OAuth's ``invalid_grant`` and the flaw if not."""
        token = _verified(compact, issuers)
        lacks = [name for name in self.needed if not token.claims.get(name)]
        if lacks:
            raise Refused("invalid_grant", f"the token lacks the claim {lacks[0]}")
        if token.issuer != self.issuer:
            raise Refused("invalid_grant", "the token's issuer does not match")
        if self.audience not in token.audiences:
            raise Refused("invalid_grant", "the token's audience does not match")
        self._check_times(token, now)
        if self.subject not in (None, token.subject):
            raise Refused("invalid_grant", "the token's subject does not match")
        return token

    def _check_times(self, token: Token, now: datetime) -> None:
        issued, expires, begins = token.time("iat"), token.time("exp"), token.time("nbf")
        if expires is None or issued is None:
            raise Refused("invalid_grant", "iat and exp must be numbers")
        if now >= expires:
            raise Refused("invalid_grant", "the token has expired")
        if max(issued, begins or issued) > now + TOLERANCE:
            raise Refused("invalid_grant", "the token is not valid yet")
        if expires - issued > self.longest_life:
            raise Refused("invalid_grant", "the token's lifetime exceeds the limit")


def _verified(compact: str, issuers: TrustedIssuers) -> Token:
    try:
        return issuers.verified(compact)
    except UnknownIssuer as error:
        raise Refused("invalid_grant", "the token's issuer does not match") from error
    except Unreachable as error:
        raise Refused("temporarily_unavailable", "the issuer's keys could not be fetched") from error
    except Malformed as error:
        raise Refused("invalid_request", "the token is not a signed JWT") from error
    except BadSignature as error:
        raise Refused("invalid_grant", "the token's signature is invalid") from error


@dataclass
class SeenIds:
    """The ``jti`` of tokens that were taken; each issuer has its own."""

    seen: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def take(self, token: Token, now: datetime) -> None:
        """Let a token pass once."""
        self.seen = {name: until for name, until in self.seen.items() if until > now}
        name = token.issuer, str(token.claims.get("jti", ""))
        if not name[1]:
            return
        if name in self.seen:
            raise Refused("invalid_grant", "the token (jti) was already used")
        self.seen[name] = token.time("exp") or now


class ModelVendor(Service):
    """A vendor of models: tokens that it gave open its API until they expire or are revoked."""

    prefix: ClassVar[str] = ""

    def __init__(self, place: Place, port: int, scheme: Scheme = "https") -> None:
        super().__init__(place, port, scheme)
        self.issuers = TrustedIssuers()
        self.grants: dict[str, Grant] = {}  # by access token

    def revoke(self, token: str) -> None:
        """Let an access token end now."""
        self.grants.pop(token, None)

    def give(self, principal: str, life: timedelta) -> str:
        """Return a new access token that stands for ``principal``."""
        token = self.prefix + secrets.token_urlsafe(72)
        self.grants[token] = Grant(principal, frozenset(), self.now() + life)
        while len(self.grants) > KEPT_GRANTS:
            self.grants.pop(next(iter(self.grants)), None)
        return token

    def caller(self, request: Request) -> Grant | None:
        """Return whom a request's bearer token stands for; None where it is not good."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self.grants.get(token)
        return grant if scheme.lower() == "bearer" and grant is not None and self.now() < grant.expires else None


def json_fields(request: Request) -> Mapping[str, Any]:
    """Return a JSON body's members; ``Refused`` with ``invalid_request`` where it is none."""
    fields = request.get_json(force=True, silent=True) if request.mimetype == "application/json" else None
    if not isinstance(fields, dict):
        raise Refused("invalid_request", "expected a JSON object")
    return fields


def required(fields: Mapping[str, Any], name: str) -> str:
    """Return a member that has to be text."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise Refused("invalid_request", f"{name} is required")
    return value
