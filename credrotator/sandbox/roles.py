"""The roles that the sandbox's STS lets web identities assume.

Owns a role's trust and limits, and the sessions made of it. Must not parse requests or write answers.
Specification: AWS IAM "Roles terms and concepts" (maximum session duration), STS API reference
(AssumeRoleWithWebIdentity: Credentials, AssumedRoleUser).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from credrotator.sandbox.answers import Refused
from credrotator.sandbox.sigv4 import Session

if TYPE_CHECKING:
    from credrotator.sandbox.trust import Token

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
ARN = re.compile(r"arn:(aws[a-z-]*):iam::(\d{12}):role/(?:[\w+=,.@/-]*/)?([\w+=,.@-]{1,64})")


@dataclass
class Role:
    """Whom a role trusts, and for how long it can be assumed.

    ``issuer`` and ``audience`` are compared exactly; ``subject`` None takes any. ``life`` is what a caller gets who
    asks for no duration, and ``forced_life`` overrides whatever was asked (seconds are fine, for tests of short lives).
    ``callers`` are the ARNs of roles that may assume it with their credentials, each with the external id that it has
    to say, "" for none; ``takes_tags`` and ``takes_source_identity``: the trust policy has sts:TagSession and
    sts:SetSourceIdentity.
    """

    issuer: str = ""
    audience: str = "sts.amazonaws.com"
    subject: str | None = None
    max_life: timedelta = timedelta(hours=1)
    life: timedelta = timedelta(hours=1)
    forced_life: timedelta | None = None
    callers: dict[str, str] = field(default_factory=dict)
    takes_tags: bool = True
    takes_source_identity: bool = True

    def trusts_audience(self, token: Token) -> bool:
        """Tell whether the token is meant for this role; ``azp`` counts as AWS lets it."""
        return self.audience in token.audiences or self.audience == token.claims.get("azp")

    def trusts(self, token: Token) -> bool:
        """Tell whether the trust policy lets the token's bearer in."""
        return token.issuer == self.issuer and self.subject in (None, token.subject)

    def life_for(self, asked: timedelta | None) -> timedelta:
        """Return how long a session lives."""
        return self.forced_life or asked or self.life


def new_session(role_arn: str, session_name: str, expires: datetime, **further: Any) -> Session:
    """Return fresh credentials for a session of that role; ``Refused`` where ``role_arn`` is no ARN of a role.

    ``further``: tags, source identity and policy of the session.
    """
    match = ARN.fullmatch(role_arn)
    if match is None:
        raise Refused("ValidationError", "Request ARN is invalid")
    partition, account, role_name = match.groups()
    return Session(
        access_key_id="ASIA" + _random(16),
        secret_access_key=secrets.token_urlsafe(30),
        session_token=secrets.token_urlsafe(240),
        expires=expires,
        arn=f"arn:{partition}:sts::{account}:assumed-role/{role_name}/{session_name}",
        role_id=f"AROA{_random(17)}:{session_name}",
        account=account,
        **further,
    )


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
