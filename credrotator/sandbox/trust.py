"""How STS, Entra and Google come to believe another party's token.

Owns the list of trusted issuers, where their keys come from, and the verification of a JWT's signature and times.
Must not decide whom a token admits to what. Specification: RFC 7515 §5.2 (signature), RFC 7519 §4.1 (claims),
OIDC Discovery 1.0 §4 (keys of a foreign issuer).
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from joserfc import jws
from joserfc.errors import JoseError

from credrotator.sandbox.keys import ALGORITHMS, key_set

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from joserfc.jwk import KeySet

FETCH_TIMEOUT_S = 5.0


class Malformed(ValueError):
    """The token is no signed JWT."""


class UnknownIssuer(LookupError):
    """Nobody said that this issuer is to be trusted."""


class Unreachable(OSError):
    """The keys of a foreign issuer could not be fetched."""


class BadSignature(ValueError):
    """No key of the issuer made this signature."""


@dataclass(frozen=True)
class Token:
    """A JWT whose signature was verified; its times and audience are still to be judged."""

    claims: Mapping[str, Any] = field(repr=False)

    @property
    def issuer(self) -> str:
        """Return ``iss``."""
        return str(self.claims.get("iss", ""))

    @property
    def subject(self) -> str:
        """Return ``sub``, or "" where there is none."""
        return str(self.claims.get("sub", ""))

    @property
    def audiences(self) -> frozenset[str]:
        """Return ``aud`` as a set, whether it was one string or a list (RFC 7519 §4.1.3)."""
        audience = self.claims.get("aud") or []
        return frozenset([audience] if isinstance(audience, str) else map(str, audience))

    def time(self, claim: str) -> datetime | None:
        """Return ``exp``, ``nbf`` or ``iat`` as aware UTC, or None where there is no such number (RFC 7519 §2)."""
        try:
            return datetime.fromtimestamp(float(self.claims[claim]), UTC)
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return None


class TrustedIssuers:
    """The issuers whose tokens a server takes; editable while it runs.

    A sandbox issuer is read in the process; a foreign one by discovery over HTTP at each verification, so that its
    key rotation shows at once.
    """

    def __init__(self) -> None:
        self._sources: dict[str, Callable[[], KeySet]] = {}

    def trust(self, issuer: str, keys: Callable[[], KeySet]) -> None:
        """Trust ``issuer`` and verify with what ``keys`` returns."""
        self._sources[issuer] = keys

    def trust_foreign(self, issuer: str, ca_file: Path | None = None) -> None:
        """Trust an issuer outside the sandbox, found by discovery; ``ca_file`` None means the system's CAs."""
        self._sources[issuer] = lambda: _fetched_keys(issuer, ca_file)

    def distrust(self, issuer: str) -> None:
        """Trust this issuer no longer."""
        self._sources.pop(issuer, None)

    def verified(self, compact: str) -> Token:
        """Return the token after checking who signed it.

        Raises:
            Malformed, UnknownIssuer, Unreachable, BadSignature: In this order of checking.
        """
        issuer = claims_of(compact).get("iss")
        source = self._sources.get(str(issuer))
        if source is None:
            raise UnknownIssuer(str(issuer))
        keys = source()
        try:
            jws.deserialize_compact(compact, keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise BadSignature(str(error)) from error
        return Token(claims_of(compact))


def claims_of(compact: str) -> dict[str, Any]:
    """Return the claims of a JWT, nothing of which is verified; ``Malformed`` where it is none."""
    try:
        claims = json.loads(jws.extract_compact(compact.encode()).payload)
    except (JoseError, ValueError) as error:
        raise Malformed("not a signed JWT") from error
    if not isinstance(claims, dict):
        raise Malformed("the claims are no JSON object")
    return claims


def _fetched_keys(issuer: str, ca_file: Path | None) -> KeySet:
    try:
        document = _fetched(f"{issuer.rstrip('/')}/.well-known/openid-configuration", ca_file)
        return key_set(_fetched(str(document["jwks_uri"]), ca_file))
    except (OSError, KeyError, TypeError, ValueError, JoseError) as error:
        raise Unreachable(f"{issuer}: {type(error).__name__}") from error


def _fetched(url: str, ca_file: Path | None) -> dict[str, Any]:
    if not url.startswith(("https://", "http://")):
        raise ValueError("neither https nor http")
    context = ssl.create_default_context(cafile=ca_file)
    # No proxies: the sandbox and the issuers beside it are local, whatever the environment says about the world.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(url, timeout=FETCH_TIMEOUT_S) as answer:
        document = json.load(answer)
    if not isinstance(document, dict):
        raise TypeError("no JSON object")
    return document
