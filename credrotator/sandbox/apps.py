"""The app registrations of the sandbox's Entra and how they prove who they are.

Owns secrets, federated identity credentials and their verification. Must not make tokens. Specification: Microsoft
identity platform "OAuth 2.0 client credentials flow", "Workload identity federation"; RFC 7523 §2.2 and §3.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credrotator.sandbox.answers import Refused
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

DEFAULT_TENANT = "11111111-2222-3333-4444-555555555555"
DEFAULT_APP = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
DEFAULT_APP_SECRET = "sandbox-entra-secret"
TOKEN_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True)
class FederatedCredential:
    """Whose tokens an app takes in place of a secret; all three are compared exactly, letter case included."""

    issuer: str
    subject: str
    audience: str = TOKEN_EXCHANGE_AUDIENCE


@dataclass
class App:
    """One app registration. ``secrets`` maps a secret to its expiry (aware UTC), or to None for never."""

    secrets: dict[str, datetime | None] = field(default_factory=dict, repr=False)
    federated: list[FederatedCredential] = field(default_factory=list)


def check_secret(app: App, secret: str, now: datetime) -> None:
    """Return if the secret is one of the app's and valid; else raise ``Refused`` 7000215 or 7000222."""
    for known, expires in app.secrets.items():
        if hmac.compare_digest(known.encode(), secret.encode()):
            if expires is not None and now >= expires:
                raise Refused("7000222")
            return
    raise Refused("7000215")


def check_assertion(app: App, form: Mapping[str, str], issuers: TrustedIssuers, now: datetime) -> None:
    """Return if the client assertion in ``form`` is one that the app's federated credentials take.

    Raises:
        Refused: 700211 issuer, 700212 audience, 700213 subject, 700027 signature, 700024 time, 90061 keys of the
            issuer not reachable, 900144 no or another assertion type.
    """
    if form.get("client_assertion_type") != JWT_BEARER:
        raise Refused("900144", "The request body must contain the following parameter: 'client_assertion_type'.")
    token = _verified(form["client_assertion"], issuers)
    _check_times(token, now)
    _check_record(app, token)


def _verified(compact: str, issuers: TrustedIssuers) -> Token:
    try:
        return issuers.verified(compact)
    except UnknownIssuer as error:
        raise Refused("700211") from error
    except Unreachable as error:
        raise Refused("90061") from error
    except (Malformed, BadSignature) as error:
        raise Refused("700027") from error


def _check_times(token: Token, now: datetime) -> None:
    begins, expires = token.time("nbf") or token.time("iat"), token.time("exp")
    if expires is None or now >= expires or (begins is not None and now < begins):
        span = f"Current time: {now:%Y-%m-%dT%H:%M:%SZ}, expiry time of assertion {expires:%Y-%m-%dT%H:%M:%SZ}." \
            if expires else "The assertion has no expiry."  # fmt: skip
        raise Refused("700024", f"Client assertion is not within its valid time range. {span}")


def _check_record(app: App, token: Token) -> None:
    # Issuer, then subject, then audience, each among the records that are left, so that the code names the misfit.
    records = [record for record in app.federated if record.issuer == token.issuer]
    if not records:
        raise Refused("700211")
    records = [record for record in records if record.subject == token.subject]
    if not records:
        raise Refused("700213")
    if not any(record.audience in token.audiences for record in records):
        raise Refused("700212")
