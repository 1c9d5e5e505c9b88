"""Tokens of service accounts of the simulated API server.

Owns the TokenRequest subresource: what is checked, and what is in a token. Who signs is a test's choice.
Source: Kubernetes API, TokenRequest (authentication.k8s.io/v1); compared with API server 1.37.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.support.kube.objects import Json, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_S = 600
API_AUDIENCE = "https://kubernetes.example.com"


class AccountTokens:
    """Signs tokens of service accounts; a test sets ``issuer`` and ``sign``.

    Attributes:
        longest: Tokens live no longer, whatever is asked for.
    """

    def __init__(self) -> None:
        self.issuer = ""
        self.sign: Callable[[dict[str, Any]], str] = lambda _: "no token"
        self.longest = timedelta(hours=24)

    def answer(self, namespace: str, name: str, body: Json) -> Json:
        """Answer a TokenRequest for an account that is there."""
        spec = body["spec"]
        seconds = spec.get("expirationSeconds", 3600)
        if seconds < LEAST_S:
            field = "spec.expirationSeconds: Invalid value"
            raise Refusal(422, "Invalid", f"{field}: {seconds}: may not specify a duration less than 10 minutes")
        now = datetime.now(UTC)
        expires_at = now + min(timedelta(seconds=seconds), self.longest)
        claims = {
            "iss": self.issuer,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": spec.get("audiences") or [API_AUDIENCE],
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": str(uuid.uuid4()),
        }
        status = {"token": self.sign(claims), "expirationTimestamp": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec, "status": status}
