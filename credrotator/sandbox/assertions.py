"""How the sandbox's issuer judges client assertions.

Owns what a client may prove itself by in place of a secret, and every check of such a proof. Must not know other ways.
Specification: RFC 7521 §4.2, RFC 7523 §3 (claims), OpenID Connect Core 1.0 §9 (private_key_jwt: iss and sub are the
client id, aud the token endpoint; jti is required and serves once), FAPI 2.0 (aud is the issuer).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from joserfc import jws
from joserfc.errors import JoseError

from credrotator.sandbox.answers import Refused
from credrotator.sandbox.trust import Malformed, Token, claims_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from joserfc.jwk import KeySet
    from werkzeug import Request

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_LIFE = timedelta(minutes=5)
"""Of what a client signs itself; a token of another party lives as long as that party says."""
TOLERANCE = timedelta(seconds=30)
ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "ES512", "Ed25519"]


@dataclass
class TrustedAssertions:
    """What one client may prove itself by.

    Args:
        keys: Returns the keys that verify.
        issuer: Who signs: another party, or "" for the client itself.
        subject: Whom the other party has to speak of; "" where the client itself signs.
    """

    keys: Callable[[], KeySet]
    issuer: str = ""
    subject: str = ""


@dataclass
class AssertionJudge:
    """Judges the assertions that one token endpoint gets; remembers those that were used.

    Attributes:
        issuer: The address of the issuer.
        now: Its time.
        audiences: Whom an assertion may be for: suffixes to the issuer's address.
        algorithms: Those that it takes.
    """

    issuer: Callable[[], str]
    now: Callable[[], datetime]
    audiences: list[str] = field(default_factory=lambda: ["", "/token"])
    algorithms: list[str] = field(default_factory=lambda: list(ALGORITHMS))
    _used: set[str] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def named(self, request: Request) -> str:
        """Return the client that an assertion names, nothing of which is verified."""
        try:
            return str(claims_of(request.form["client_assertion"]).get("sub", ""))
        except Malformed as error:
            raise Refused("invalid_client", "the client assertion is no signed JWT") from error

    def judge(self, request: Request, client_id: str, trusted: TrustedAssertions) -> None:
        """See that an assertion proves the client.

        Raises:
            Refused: ``invalid_client``, with what is wrong.
        """
        if request.form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refused("invalid_client", f"client_assertion_type has to be {ASSERTION_TYPE}")
        compact = request.form["client_assertion"]
        try:
            jws.deserialize_compact(compact, trusted.keys(), algorithms=self.algorithms)
            token = Token(claims_of(compact))
        except (Malformed, JoseError, ValueError) as error:
            raise Refused("invalid_client", "the signature of the client assertion does not verify") from error
        expected = (trusted.issuer or client_id, trusted.subject or client_id)
        if (token.issuer, token.subject) != expected:
            raise Refused("invalid_client", f"the client assertion is of {token.issuer} about {token.subject}")
        if not token.audiences & {self.issuer() + suffix for suffix in self.audiences}:
            raise Refused("invalid_client", "the client assertion is for another audience")
        self._check_times(token, own=not trusted.issuer)
        self._use(token)

    def _check_times(self, token: Token, *, own: bool) -> None:
        now, issued, expires = self.now(), token.time("iat"), token.time("exp")
        if expires is None or now >= expires:
            raise Refused("invalid_client", "the client assertion has expired, or does not say when")
        if issued is not None and issued > now + TOLERANCE:
            raise Refused("invalid_client", "the client assertion was issued in the future")
        if own and expires > now + LONGEST_LIFE + TOLERANCE:
            raise Refused("invalid_client", "the client assertion lives too long")

    def _use(self, token: Token) -> None:
        identifier = str(token.claims.get("jti") or "")
        if not identifier:
            raise Refused("invalid_client", "the client assertion has no jti")
        with self._lock:
            if identifier in self._used:
                raise Refused("invalid_client", "the client assertion was used before")
            self._used.add(identifier)
