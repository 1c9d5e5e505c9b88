"""Whom the sandbox's Google Cloud knows: providers of workload identity pools, service accounts, and their tokens.

Owns what each of them takes for proof. Must not parse requests or write answers. Specification: Google Cloud IAM
"Workload identity federation" (attribute mapping, allowed audiences, principals), "Service account keys"; RFC 7523 §3.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from credrotator.sandbox.answers import Refused
from credrotator.sandbox.trust import (
    BadSignature,
    Malformed,
    Token,
    TrustedIssuers,
    UnknownIssuer,
    Unreachable,
    claims_of,
)

if TYPE_CHECKING:
    from datetime import datetime

DEFAULT_POOL = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/gateway/providers/idp"
DEFAULT_ACCOUNT = "vertex@sandbox-project.iam.gserviceaccount.com"
TOKEN_AUDIENCE = "https://oauth2.googleapis.com/token"
LONGEST_ASSERTION = timedelta(hours=1)
TOLERANCE = timedelta(minutes=5)


@dataclass
class PoolProvider:
    """A provider of a workload identity pool.

    ``issuer`` and ``audiences`` are compared exactly; no audiences means the provider's own name with https before it.
    ``subject`` None takes any, else it is the attribute condition.
    """

    issuer: str
    audiences: frozenset[str] = frozenset()
    subject: str | None = None
    disabled: bool = False

    def principal(self, name: str, compact: str, issuers: TrustedIssuers, now: datetime) -> str:
        """Return the principal that a token stands for; ``Refused`` with Google's code and words if for none."""
        token = self._verified(compact, issuers)
        if token.issuer != self.issuer:
            what = f"The issuer in ID Token {token.issuer} does not match the expected ones: {self.issuer}."
            raise Refused("invalid_grant", what)
        expected = self.audiences or {f"https:{name}"}
        if not token.audiences & expected:
            got, wanted = " ".join(sorted(token.audiences)), " ".join(sorted(expected))
            raise Refused(
                "invalid_grant", f"The audience in ID Token [{got}] does not match the expected audience {wanted}."
            )
        issued, expires = token.time("iat"), token.time("exp")
        if expires is None or issued is None or now >= expires:
            shown = int(issued.timestamp()) if issued else 0
            raise Refused("invalid_grant", f"ID Token issued at {shown} is stale to sign-in.")
        if self.subject not in (None, token.subject):
            raise Refused("unauthorized_client")
        return f"principal:{name.rpartition('/providers/')[0]}/subject/{token.subject}"

    def _verified(self, compact: str, issuers: TrustedIssuers) -> Token:
        try:
            return issuers.verified(compact)
        except UnknownIssuer as error:
            what = f"The issuer in ID Token {error} does not match the expected ones: {self.issuer}."
            raise Refused("invalid_grant", what) from error
        except Unreachable as error:
            raise Refused("invalid_grant", "Error connecting to the given credential's issuer.") from error
        except Malformed as error:
            raise Refused("invalid_request", "Unable to parse the ID Token.") from error
        except BadSignature as error:
            raise Refused("invalid_grant", "Invalid ID Token signature.") from error


@dataclass
class ServiceAccount:
    """A service account: its keys by their ids, who may impersonate it, and how long a token of it may live."""

    keys: dict[str, RSAKey] = field(default_factory=dict, repr=False)
    impersonators: set[str] = field(default_factory=set)
    max_life: timedelta = timedelta(hours=1)
    disabled: bool = False

    def new_key(self, email: str) -> str:
        """Make a key and return its file, as ``gcloud iam service-accounts keys create`` writes it."""
        key, key_id = RSAKey.generate_key(2048), secrets.token_hex(20)
        self.keys[key_id] = key
        found = {
            "type": "service_account",
            "project_id": email.partition("@")[2].partition(".")[0],
            "private_key_id": key_id,
            "private_key": key.as_pem(private=True).decode(),
            "client_email": email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": TOKEN_AUDIENCE,
            "universe_domain": "googleapis.com",
        }
        return json.dumps(found, indent=2) + "\n"


@dataclass(frozen=True)
class Grant:
    """What an access token stands for."""

    principal: str
    scopes: frozenset[str]
    expires: datetime


def signer_of(assertion: str, accounts: dict[str, ServiceAccount], now: datetime) -> tuple[str, str]:
    """Return the account that signed an assertion, and the scopes in it; ``Refused`` with Google's code and words."""
    try:
        claims, key_id = claims_of(assertion), jws.extract_compact(assertion.encode()).headers().get("kid")
    except (Malformed, JoseError, ValueError) as error:
        raise Refused("invalid_grant", "Bad Request") from error
    email = str(claims.get("iss", ""))
    account = accounts.get(email)
    if account is None or account.disabled:
        raise Refused("invalid_grant", "Invalid grant: account not found")
    key = account.keys.get(str(key_id))
    if key is None:
        raise Refused("invalid_grant", "Invalid JWT Signature.")
    try:
        jws.deserialize_compact(assertion, key, algorithms=["RS256"])
    except (JoseError, ValueError) as error:
        raise Refused("invalid_grant", "Invalid JWT Signature.") from error
    token = Token(claims)
    if TOKEN_AUDIENCE not in token.audiences:
        raise Refused("invalid_grant", f"The audience must be {TOKEN_AUDIENCE}")
    _check_times(token, now)
    return email, str(claims.get("scope", ""))


def _check_times(token: Token, now: datetime) -> None:
    issued, expires = token.time("iat"), token.time("exp")
    sound = issued is not None and expires is not None and timedelta(0) < expires - issued <= LONGEST_ASSERTION
    if not sound or not issued or not expires or now < issued - TOLERANCE or now >= expires:
        raise Refused(
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat "
            "and exp values in the JWT claim.",
        )
